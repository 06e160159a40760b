"""OpenRLHF's actor with the fused head, against the same actor with its own: log-probs, entropies, every gradient."""

import os
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

import transformers  # noqa: E402
from openrlhf.models import Actor  # noqa: E402
from policy_ranks import run_ranks  # noqa: E402

from openrlhf_prefix.errors import RunStopped  # noqa: E402
from openrlhf_prefix.runtime.learner.fp32 import InFp32  # noqa: E402
from openrlhf_prefix.runtime.learner.head import FusedForward, fuse  # noqa: E402

VOCABULARY, TEMPERATURE = 96, 0.7
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MODELS = {
    "qwen2": transformers.Qwen2Config(**SIZES, **HEADS),
    "qwen2 tied": transformers.Qwen2Config(**SIZES, **HEADS, tie_word_embeddings=True),
    "llama": transformers.LlamaConfig(**SIZES, **HEADS),
    "phi, whose head has a bias": transformers.PhiConfig(**SIZES, **HEADS),
    "qwen3 with experts": transformers.Qwen3MoeConfig(**SIZES, **HEADS, **EXPERTS, head_dim=8),
}
OTHERS = {
    "final_logit_softcapping": transformers.Gemma2Config(**SIZES, **HEADS, head_dim=8, final_logit_softcapping=5.0),
    "logit_scale": transformers.CohereConfig(**SIZES, **HEADS, logit_scale=0.25),
    "logits_scaling": transformers.GraniteConfig(**SIZES, **HEADS, logits_scaling=4.0),
}


@pytest.fixture(autouse=True)
def entropy_by_its_definition(monkeypatch) -> None:
    """Upstream's is compiled, for which a machine needs a compiler."""

    def entropy(logits: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Categorical(logits=logits).entropy()

    monkeypatch.setattr("openrlhf.models.actor.compute_entropy", entropy)


def make_actor(folder, config, packing=False, dtype=torch.float32, **options):
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    actor = Actor(str(folder), attn_implementation="sdpa", packing_samples=packing, temperature=TEMPERATURE, **options)
    actor.model.to(dtype)
    return actor


def flags(mode="auto"):
    return SimpleNamespace(
        actor=SimpleNamespace(fused_head=mode, entropy_coef=0.1), ds=SimpleNamespace(use_liger_kernel=False)
    )


def rows(width=19):
    """(sequences, action_mask, attention_mask): padding on both sides, a row without an action token."""
    generator = torch.Generator().manual_seed(3)
    sequences = torch.randint(1, VOCABULARY, (3, 20), generator=generator)
    places = torch.arange(20)
    attention = torch.stack([places >= 4, places < 17, places < 12]).long()
    actions = torch.stack([places >= 9, (places >= 3) & (places < 17) & (places != 8), places < 0])
    return sequences, actions[:, -width:], attention


def passed(actor, given, entropy=True):
    """Log-probs, entropies of action tokens and gradients of a loss that weighs every one of them differently."""
    action_mask = given[1]
    log_probs, output = actor(*given, return_output=True, return_entropy=entropy)
    generator = torch.Generator().manual_seed(5)
    drawn = torch.randn(2, *log_probs.shape, generator=generator)
    found = [log_probs * action_mask]
    if entropy:
        found.append(output.entropy[:, -action_mask.shape[1] :] * action_mask)
    actor.zero_grad()
    sum((coefficients * values).sum() for coefficients, values in zip(drawn, found, strict=False)).backward()
    grads = {name: p.grad for name, p in actor.named_parameters() if p.requires_grad}
    assert log_probs.shape == action_mask.shape and all(grad is not None for grad in grads.values())
    return [values.detach() for values in found], grads, output


def close(ours, theirs):
    torch.testing.assert_close(ours[:2], theirs[:2], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_what_upstream_computes(name, packing, tmp_path) -> None:
    actor = make_actor(tmp_path, MODELS[name], packing)
    for width, entropy in ((19, True), (19, False), (13, True)):
        wanted = passed(actor, rows(width), entropy)
        fuse(actor, flags("on"), "the policy")
        found = passed(actor, rows(width), entropy)
        close(found, wanted)
        assert found[2]["logits"].shape == (1, int(rows(width)[1].sum()) + 1, 1 + entropy)  # the head saw no others
        if name.endswith("experts"):
            assert found[2].aux_loss == wanted[2].aux_loss
        actor.forward = actor.forward.plain


def test_rows_without_an_action_token_have_a_gradient_of_zero(tmp_path) -> None:
    """As a rank needs it whose micro-batch is blank: its backward gathers weights for the others."""
    actor = make_actor(tmp_path, MODELS["qwen2"])
    fuse(actor, flags(), "the policy")
    sequences, action_mask, attention_mask = rows()
    log_probs, gradients, _ = passed(actor, (sequences, torch.zeros_like(action_mask), attention_mask))
    assert not log_probs[0].any() and not any(gradient.any() for gradient in gradients.values())


def test_with_gradient_checkpointing(tmp_path) -> None:
    actor = make_actor(tmp_path, MODELS["qwen2 tied"], packing=True).train()
    wanted = passed(actor, rows())
    actor.gradient_checkpointing_enable()
    fuse(actor, flags("on"), "the policy")
    close(passed(actor, rows()), wanted)


def test_lora_elsewhere_leaves_the_head_frozen(tmp_path) -> None:
    actor = make_actor(tmp_path, MODELS["qwen2 tied"], lora_rank=2, target_modules=["q_proj", "down_proj"])
    for name, parameter in actor.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wanted = passed(actor, rows())
    fuse(actor, flags("on"), "the policy")
    found = passed(actor, rows())
    close(found, wanted)
    assert len(found[1]) == 8 and not any("lm_head" in name for name in found[1])


def test_in_fp32_it_is_the_pass_of_the_same_weights_in_fp32(tmp_path) -> None:
    actor = make_actor(tmp_path, MODELS["llama"], dtype=torch.bfloat16)
    exact = make_actor(tmp_path, MODELS["llama"], dtype=torch.bfloat16)
    exact.model.float()
    fuse(actor, flags(), "the policy")
    with torch.no_grad():
        low = actor(*rows())
        with InFp32():
            found = actor(*rows())
        wanted = exact(*rows())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert (low - wanted).abs().mean() > 20 * (found - wanted).abs().mean()


@pytest.mark.parametrize("change", OTHERS)
def test_a_model_that_changes_its_logits_keeps_upstreams_way(change, tmp_path, capsys) -> None:
    actor = make_actor(tmp_path, OTHERS[change])
    wanted = passed(actor, rows())
    fuse(actor, flags(), "the policy")
    assert (
        f"the policy keeps the logits of all tokens (actor.fused_head): the model changes its logits ({change})"
        in (capsys.readouterr().out)
    )
    close(passed(actor, rows()), wanted)
    assert not capsys.readouterr().out
    with pytest.raises(RunStopped, match=f"{change}.; set it to auto"):
        fuse(actor, flags("on"), "the policy")


CHANGES = {
    "scale": lambda logits: 2 * logits,
    "cap": lambda logits: 5 * (logits / 5).tanh(),
    "precision": lambda logits: logits.bfloat16(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_no_config_names_is_found_in_the_first_pass(change, tmp_path, capsys) -> None:
    actor = make_actor(tmp_path, MODELS["qwen2"])
    plain = actor.model.forward

    def forward(*args, **kwargs):
        output = plain(*args, **kwargs)
        output["logits"] = CHANGES[change](output["logits"])
        return output

    actor.model.forward = forward
    wanted = passed(actor, rows())
    fuse(actor, flags("on"), "the policy")
    with pytest.raises(RunStopped, match="the policy does not allow it: the model changes its logits"):
        actor(*rows())
    actor.forward = actor.forward.plain
    fuse(actor, flags(), "the policy")
    close(passed(actor, rows()), wanted)
    assert capsys.readouterr().out.count("the policy keeps the logits of all tokens") == 1
    close(passed(actor, rows()), wanted)
    assert not capsys.readouterr().out


def test_a_head_that_it_does_not_know_keeps_upstreams_way(tmp_path) -> None:
    actor = make_actor(tmp_path / "lora", MODELS["qwen2"], lora_rank=2, target_modules=["lm_head"])
    with pytest.raises(RunStopped, match="the head is a Linear, and not a plain linear layer"):
        fuse(actor, flags("on"), "the policy")
    actor = make_actor(tmp_path / "other", MODELS["qwen2"])
    actor.model.lm_head.forward = lambda hidden: hidden
    with pytest.raises(RunStopped, match="something else has replaced the head's forward"):
        fuse(actor, flags("on"), "the policy")
    liger = flags("on")
    liger.ds.use_liger_kernel = True
    with pytest.raises(RunStopped, match="ds.use_liger_kernel brings its own"):
        fuse(actor, liger, "the policy")
    fuse(actor, flags("off"), "the policy")
    assert not isinstance(actor.forward, FusedForward)


def test_whoever_wants_logits_gets_them(tmp_path) -> None:
    actor = make_actor(tmp_path, MODELS["qwen2"])
    fuse(actor, flags(), "the policy")
    sequences, _, attention_mask = rows()
    output = actor(sequences, attention_mask=attention_mask, return_output=True)
    assert output["logits"].shape == (3, 20, VOCABULARY)
    assert "forward" not in vars(actor.model.lm_head)


def _ring(folder) -> None:
    """Each of two ranks has half of the packed tokens. Attention within a half is enough for a comparison."""
    from openrlhf.models import ring_attn_utils

    ring_attn_utils.update_ring_attn_params = lambda lengths: None
    actor = make_actor(folder / os.environ["RANK"], MODELS["qwen2"], packing=True)
    torch.distributed.init_process_group("gloo")
    ring, given = torch.distributed.group.WORLD, rows()

    def log_probs():
        actor.zero_grad()
        found = actor(*given, ring_attn_group=ring)
        (found * torch.linspace(-1, 2, found.numel()).view_as(found)).sum().backward()
        return found.detach(), {name: p.grad for name, p in actor.named_parameters()}

    wanted = log_probs()
    fuse(actor, flags("on"), "the policy")
    torch.testing.assert_close(log_probs(), wanted, rtol=2e-5, atol=2e-6)
    (folder / f"done{os.environ['RANK']}").touch()


def test_two_ranks_of_a_ring_with_unequal_numbers_of_action_tokens(tmp_path) -> None:
    run_ranks(2, _ring, tmp_path)
    assert len(list(tmp_path.glob("done*"))) == 2
