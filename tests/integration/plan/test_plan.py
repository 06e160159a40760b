"""What a plan says against what DeepSpeed and autograd hold, and against arithmetic done by hand."""

import os
import socket
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from openrlhf_prefix import cli
from openrlhf_prefix.data.chains import INSTRUCTION
from openrlhf_prefix.data.tiny_model import WarmUp, make_untrained_model
from openrlhf_prefix.data.tiny_tokenizer import make_tokenizer
from openrlhf_prefix.plan import memory
from openrlhf_prefix.plan.architectures import KNOWN, load, of_config
from openrlhf_prefix.plan.command import main as plan

CONFIGS = Path(__file__).parents[3] / "configs"
RECIPES = sorted(path for path in CONFIGS.glob("*/*.yaml") if path.parent.name not in ("base", "compare", "smollm2"))
# Parameters on both sides of the 1e5 elements below which ZeRO-3 keeps them whole.
SMALL = {"hidden_size": 320, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 10}
SMALL |= {"num_key_value_heads": 2, "head_dim": 32, "vocab_size": 65, "tie_word_embeddings": False}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("Qwen/Qwen2.5-Math-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-Math-7B", 7_615_616_512),
        ("Qwen/Qwen2.5-32B", 32_763_876_352),
        ("Qwen/Qwen3-1.7B-Base", 1_720_574_976),
        ("Qwen/Qwen3-8B-Base", 8_190_735_360),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
    ],
)
def test_the_recipes_models_have_the_published_number_of_parameters(name, published):
    assert load(name).parameters == published
    assert set(KNOWN) >= {name}


def measure_engines(rank: int, ranks: int, port: int, folder: Path) -> None:
    """One rank: bytes that OpenRLHF's actor in a real ZeRO-3 engine holds after a step, for both gradient types."""
    from openrlhf_prefix.runtime.platform import adapter

    os.environ |= {adapter.VARIABLE: "cpu", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= adapter.current().engine_environment()
    torch.set_num_threads(1)
    adapter.current().install()
    adapter.current().patch_trainer()
    found = {dtype: _engine_bytes(folder / "model", ranks, dtype) for dtype in ("bf16", "fp32")}
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def _engine_bytes(model: Path, ranks: int, gradients: str) -> dict[str, int]:
    from openrlhf.models import Actor
    from openrlhf.utils.deepspeed import DeepspeedStrategy

    from openrlhf_prefix.settings.resolve import flags_of

    args = flags_of({"vllm.num_engines": 1, "train.batch_size": ranks, "rollout.batch_size": ranks,
                     "actor.num_gpus_per_node": ranks, "ds.grad_accum_dtype": gradients,
                     "reward.remote_url": "math-verify", "rollout.max_new_tokens": 8,
                     "prefix.gradient_every": 0})  # fmt: skip
    args.local_rank = int(os.environ["LOCAL_RANK"])

    class Planned(DeepspeedStrategy):
        """As on a GPU; the CPU platform has ZeRO-3 cut every tensor."""

        def get_ds_train_config(self, *args, **kwargs):
            config = super().get_ds_train_config(*args, **kwargs)
            config["zero_optimization"]["stage3_param_persistence_threshold"] = memory.PERSISTENT
            return config

    strategy = Planned(seed=1, max_norm=1.0, micro_train_batch_size=1, train_batch_size=ranks, zero_stage=3, args=args)
    strategy.setup_distributed()
    actor = Actor(str(model), attn_implementation="sdpa", ds_config=strategy.get_ds_train_config())
    settings = {"optim": "adam", "adam": vars(args.actor.adam), "lr_scheduler": "constant", "lr_warmup_ratio": 0.0,
                "max_norm": 1.0, "scheduler_steps": 10}  # fmt: skip
    actor, optimizer, scheduler = strategy.prepare((actor, settings))
    tokens = torch.arange(3, 23).unsqueeze(0)
    log_probs = actor(tokens, torch.ones(1, 19, dtype=torch.bool), torch.ones_like(tokens))
    strategy.backward(log_probs.mean(), actor, optimizer)
    strategy.optimizer_step(optimizer, actor, scheduler)

    zero, parameters = actor.model.optimizer, list(actor.model.module.parameters())
    whole = sum(p.data.nbytes for p in parameters if p.ds_persist)
    masters = zero.fp32_partitioned_groups_flat
    moments = [value for state in zero.optimizer.state.values() for value in state.values() if value.dim()]
    found = {
        "parameters": whole + sum(p.ds_tensor.nbytes for p in parameters),
        "gradients": zero.grad_partitions_flat_buffer.nbytes,
        "optimizer": sum(tensor.nbytes for tensor in [*masters, *moments]),
        "bucket": zero.reduce_bucket_size,
    }
    actor.model.destroy()
    return found


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("size", ["embedded", "small"])
def test_static_items_are_what_a_deepspeed_engine_holds(size, ranks, tmp_path):
    """The embedded model keeps all its parameters whole (none has 1e5 elements), the other one some."""
    pytest.importorskip("openrlhf")
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SMALL))
    if size == "embedded":
        model = make_untrained_model(make_tokenizer(INSTRUCTION), WarmUp())
    model.save_pretrained(tmp_path / "model")
    with socket.socket() as sock:
        sock.bind(("", 0))
        port = sock.getsockname()[1]
    torch.multiprocessing.spawn(measure_engines, args=(ranks, port, tmp_path), nprocs=ranks)
    planned = of_config(model.config, "small")
    for rank in range(ranks):
        for dtype, held in torch.load(tmp_path / f"{rank}.pt").items():
            expected = {
                "parameters": memory.parameter_bytes(planned, 3, ranks),
                "gradients": memory.gradient_bytes(planned, 3, ranks, dtype == "fp32"),
                "optimizer": memory.optimizer_bytes(planned, 3, ranks),
            }
            for item, bytes_ in expected.items():
                assert bytes_ == pytest.approx(held[item], rel=0.15), (rank, dtype, item)
            assert held["bucket"] == memory.BUCKET


@pytest.mark.parametrize(("kind", "model"), [(Qwen2Config, Qwen2ForCausalLM), (Qwen3Config, Qwen3ForCausalLM)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_what_autograd_saves(kind, model, checkpointing):
    """Per layer, from the difference of four layers and two: embeddings and the last norm are in both."""

    def saved(layers: int) -> int:
        network = model(kind(**SMALL | {"num_hidden_layers": layers})).to(torch.bfloat16).train()
        if checkpointing:
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
        storages = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network.model(torch.zeros(1, 256, dtype=torch.long))
        return sum(size for key, (size, _) in storages.items() if key not in weights)

    planned = of_config(kind(**SMALL), "small")
    per_token = 2 * planned.hidden if checkpointing else memory.layer_bytes(planned)
    assert (saved(4) - saved(2)) / 2 / 256 == pytest.approx(per_token, rel=0.02)


def test_the_7b_model_on_eight_gpus_by_hand(capsys):
    """P 7,615,616,512 / 8: optimizer 12 bytes = 10.64 GiB, gradients in fp32 3.55; logits 10 x 16384 x 152064 = 23.20,
    fused 8 x 2^26 + 3584 x (4 x 16384 + 2 x 152064) = 1.73; weights of an engine 2 P = 14.19, cache 0.8 x 80 - 14.19
    - 2 = 47.81. A row of 9216 tokens takes 4 x 28 layers x 512 = 57,344 bytes a token, 0.492 GiB: 97.1 rows.
    2 x (32000 / 128) = 500 steps."""
    logits = []
    for fused in ("off", "auto"):
        plan(["--config", str(CONFIGS / "qwen2.5_math_7b/prefix_rft.yaml"), "--actor.fused_head", fused])
        shown = capsys.readouterr().out
        rows = {line[:18].strip(): line[18:].split() for line in shown.splitlines() if line[18:28].strip()}
        logits.append(rows["logits"][0])
    assert rows["optimizer"][:3] == ["10.64", "10.64", "0.00"] and rows["gradients"][:3] == ["3.55", "3.55", "0.00"]
    assert logits == ["23.20", "1.73"] and rows["vLLM weights"][2] == "14.19" and rows["KV cache"][2] == "47.81"
    assert "97.1 rows of full length" in shown and "500 steps" in shown and shown.endswith("fits\n")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_recipe_fits_into_80_gib(path, capsys):
    cli.main(["plan", "--config", str(path), "--gpu-memory", "80"])
    assert capsys.readouterr().out.endswith("fits\n")


def test_the_quickstart_fits_too(tmp_path, capsys):
    """One GPU; of 320 problems 16 a step. The embedded model is made by the quickstart, its config stands for it."""
    make_untrained_model(make_tokenizer(INSTRUCTION), WarmUp()).config.save_pretrained(tmp_path)
    command = ["plan", "--config", str(CONFIGS / "quickstart.yaml"), "--model_config", str(tmp_path / "config.json")]
    cli.main([*command, "--problems", "2048"])
    shown = capsys.readouterr().out
    assert "an epoch: 320 problems, 20 steps" in shown and shown.endswith("fits\n")


@pytest.mark.parametrize(
    ("recipe", "flags", "what", "mend"),
    [
        ("qwen2.5_32b/rft.yaml", "--nodes 1 --gpus-per-node 8", "most for optimizer", "--ds.adam_offload"),
        (
            "qwen2.5_math_7b/rft.yaml",
            "--actor.gradient_checkpointing_enable false",
            "most for activations",
            "--actor.gradient_checkpointing_enable",
        ),
        (
            "qwen2.5_math_7b/rft.yaml",
            "--vllm.enable_sleep false --actor.fused_head off",
            "most for KV cache",
            "--vllm.enable_sleep",
        ),
        (
            "qwen2.5_math_7b/rft.yaml",
            "--gpu-memory 40 --actor.fused_head off",
            "most for logits",
            "--actor.fused_head auto",
        ),
        (
            "qwen2.5_32b/rft.yaml",
            "--vllm.tensor_parallel_size 1",
            "no single row",
            "--vllm.gpu_memory_utilization 0.9",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_flags_that_mend_it(recipe, flags, what, mend, capsys):
    """Each flag that is offered is tried on the command line."""
    command = ["--config", str(CONFIGS / recipe), *flags.split()]
    with pytest.raises(SystemExit) as ended:
        plan(command)
    shown = capsys.readouterr().out
    assert ended.value.code == 1 and what in shown and f"would fit with {mend}" in shown
    for line in shown.splitlines():
        if line.startswith("would fit with "):
            offered = line.removeprefix("would fit with ").split()
            if "--actor.num_nodes" in offered:  # as a user would: --nodes is the number of nodes
                offered = ["--nodes", offered[-1]]
            plan([*command, *offered])


def test_a_split_placement_needs_all_its_gpus(capsys):
    """32 that train and 4 engines of 4: 48."""
    with pytest.raises(SystemExit):
        plan(["--config", str(CONFIGS / "qwen2.5_32b/split.yaml"), "--nodes", "5", "--gpus-per-node", "8"])
    assert "the placement asks for 48 GPUs, 5 nodes of 8 have 40" in capsys.readouterr().out
    plan(["--config", str(CONFIGS / "qwen2.5_32b/split.yaml"), "--nodes", "6", "--gpus-per-node", "8"])


def test_a_model_that_is_not_here_comes_as_a_config_file(tmp_path, capsys):
    """Two embeddings of 65 x 320, two layers of 102,720 + 41,088 + 102,400 + 983,040 + 640, a norm of 320."""
    Qwen2Config(**SMALL).save_pretrained(tmp_path)
    command = ["--config", str(CONFIGS / "qwen3_8b_base/rft.yaml"), "--actor.model_name_or_path", "org/unknown"]
    plan([*command, "--model_config", str(tmp_path / "config.json"), "--problems", "1280"])
    shown = capsys.readouterr().out
    assert "org/unknown: 2,501,696 parameters" in shown and "an epoch: 1280 problems, 10 steps" in shown
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", *command])
    assert ended.value.code == 2 and "give its config.json as --model_config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "held"),
    [
        ([], "a checkpoint takes 85.1 GiB, ckpt.path at most 255.3 (3 of them"),
        (
            ["--ckpt.max_num", "1", "--ckpt.save_hf"],
            "170.2 (2 of them, of which one is being written); an export 14.2",
        ),
        (["--ckpt.best_metric_key", "none", "--eval.dataset", "x.jsonl"], "255.3 (3 of them"),
        (["--eval.dataset", "x.jsonl"], "340.4 (4 of them"),
        (["--ckpt.max_mem", "100"], "at most 185.1 (3"),
        (["--ckpt.disable_ds"], "disk: no checkpoint (ckpt.disable_ds); an export 14.2 GiB"),
    ],
)
def test_the_plan_tells_the_disk_that_checkpoints_take(flags, held, capsys):
    """7,615,616,512 parameters x 12 bytes = 85.11 GiB; a copy of that, an eighth from each GPU, lies in host memory
    while it is written: as much a node."""
    recipe = ["--config", str(CONFIGS / "qwen2.5_math_7b" / "prefix_rft.yaml"), "--problems", "1000"]
    plan([*recipe, *flags])
    written = capsys.readouterr().out
    assert held in written
    host = 227 if "--ckpt.disable_ds" in flags else 227 + 85
    assert f"host memory: {host} GiB a node" in written


@pytest.mark.parametrize(
    ("flags", "row"),
    [
        (["--hybrid.preset", "sft_f"], f"{'reference':<18}" + 3 * "      1.77" + "   bf16"),
        (["--algo.kl.init_coef", "0.01"], f"{'reference':<18}" + 3 * "      1.77" + "   bf16"),
        (["--hybrid.preset", "sft_f", "--hybrid.imitation", "f_tv"], None),
        (
            ["--hybrid.preset", "sft_f", "--ref.offload"],
            f"{'reference':<18}" + 3 * "      0.00" + "   1.8 on the host for each of its GPUs",
        ),
    ],
)
def test_the_policy_before_the_run_lies_beside_it_where_it_is_kept(flags, row, capsys):
    """7,615,616,512 parameters x 2 bytes on 8 GPUs are 1.77 GiB."""
    plan(["--config", str(CONFIGS / "qwen2.5_math_7b" / "prefix_rft.yaml"), "--problems", "1000", *flags])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("reference")] == ([row] if row else [])


def test_older_weights_lie_on_the_host_and_in_the_checkpoints(capsys):
    """Each is 7,615,616,512 parameters x 4 bytes, 28.37 GiB: in use, and once more in a checkpoint that is written."""
    one_step = ["--hybrid.preset", "irft", "--rollout.batch_size", "64", "--train.batch_size", "512"]
    host = []
    for snapshots in ("1", "3"):
        flags = [*one_step, "--contrast.snapshots", snapshots, "--problems", "10000"]
        plan(["--config", str(CONFIGS / "qwen2.5_math_7b" / "prefix_rft.yaml"), *flags])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("host memory: ")]
        host.append(float(line.split()[2]))
    assert host[1] - host[0] == pytest.approx(2 * 2 * 28.37, abs=1.0)


@pytest.mark.parametrize(
    ("flags", "row", "host"),
    [
        ([], f"{'teacher':<18}" + 3 * "      7.63" + "   bf16", 312),
        (
            ["--teacher.offload"],
            f"{'teacher':<18}" + 3 * "      0.00" + "   7.6 on the host for each of its GPUs",
            373,
        ),
        (["--hybrid.preset", "opsd", "--teacher.model", "self"], None, 312),
    ],
)
def test_the_teacher_lies_beside_the_policy_in_every_phase(flags, row, host, capsys):
    """32,763,876,352 parameters x 2 bytes on 8 GPUs are 7.63 GiB."""
    teacher = ["--hybrid.preset", "opd", "--teacher.model", "Qwen/Qwen2.5-32B", "--problems", "1000"]
    plan(["--config", str(CONFIGS / "qwen2.5_math_7b" / "prefix_rft.yaml"), *teacher, *flags])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("teacher")] == ([row] if row else [])
    assert any(line.startswith(f"host memory: {host} GiB a node") for line in lines)
