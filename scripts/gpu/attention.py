"""Stage 6: packed rows through flash-attn against the same rows padded, through sdpa: log-probs and gradients.

    truth     sdpa, padded, fp32, of the weights as bf16 has them
    error     |x - truth| / |truth| over all action tokens, or all weights' gradients

Either way is wrong by bf16's rounding; flash-attn may be wrong by twice what sdpa is, and not more. On a CPU there is
no flash-attn: packed against padded through sdpa, both in fp32, which have to be equal.
"""

from dataclasses import dataclass
from typing import Any

import torch

from gpu.sizes import model_folder, sizes
from gpu.stage import Outcome, Setting, Skipped, check, timed
from openrlhf_prefix import pins

EQUAL, TIMES = 1e-5, 2.0


@dataclass(frozen=True)
class Way:
    """How the rows go through the model."""

    kernel: str
    packed: bool
    dtype: torch.dtype


def run(setting: Setting) -> Outcome:
    truth = Way("sdpa", False, torch.float32)
    if not setting.on_gpu:
        errors = _errors(setting, truth, Way("sdpa", True, torch.float32))
        check(max(errors["errors"]) < EQUAL, f"packed rows are {errors['errors']} away from padded ones")
        worst = max(errors["errors"])
        return Outcome(
            f"no flash-attn on a CPU: packed sdpa is padded sdpa to {worst:.0e}, log-probs and gradients", errors
        )
    if pins.missing("flash-attn"):
        raise Skipped("flash-attn is not here: stage 2 says why")
    sdpa = _errors(setting, truth, Way("sdpa", False, torch.bfloat16))
    flash = _errors(setting, truth, Way("flash_attention_2", True, torch.bfloat16))
    for what, ours, theirs in zip(("log-probs", "gradients"), flash["errors"], sdpa["errors"], strict=True):
        check(ours <= TIMES * theirs, f"{what} of flash-attn are {ours:.1e} from fp32, those of sdpa {theirs:.1e}")
    return Outcome(
        f"from fp32 {flash['errors'][0]:.1e} and {flash['errors'][1]:.1e}, sdpa {sdpa['errors'][0]:.1e} and "
        f"{sdpa['errors'][1]:.1e}; {flash['seconds']:.2f} s packed, {sdpa['seconds']:.2f} s padded",
        {"flash": flash, "sdpa": sdpa},
    )


def _errors(setting: Setting, truth: Way, other: Way) -> dict[str, Any]:
    """Relative errors of log-probs and gradients, and the seconds of the second of two passes."""
    wanted, found = passed(setting, truth), passed(setting, other)
    errors = [float((x - y).norm() / y.norm()) for x, y in zip(found[:2], wanted[:2], strict=True)]
    return {"errors": errors, "seconds": found[2]}


def passed(setting: Setting, way: Way) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Log-probs of all action tokens, gradient of all weights, each as one vector in fp32, and seconds."""
    actor, (tokens, action, attention, weights) = make_actor(setting, way), rows(setting)

    def forward_and_backward() -> torch.Tensor:
        actor.model.zero_grad()
        log_probs, _ = actor(tokens, action, attention_mask=attention, return_output=True)
        (log_probs * weights * action).sum().backward()
        return log_probs[action].detach().float()

    forward_and_backward()
    seconds, log_probs = timed(setting, forward_and_backward)
    gradient = torch.cat([parameter.grad.flatten().float() for parameter in actor.model.parameters()])
    return log_probs.cpu(), gradient.cpu(), seconds


def make_actor(setting: Setting, way: Way) -> Any:
    """OpenRLHF's actor with our head, outside of any engine."""
    from openrlhf.models import Actor

    from openrlhf_prefix.runtime.learner import head
    from openrlhf_prefix.settings.resolve import flags_of

    model, size = str(model_folder(setting)), sizes(setting)
    args = flags_of(
        {"actor.model_name_or_path": model, "rollout.max_new_tokens": size.response, "vllm.num_engines": 1}
    )
    actor = Actor(model, attn_implementation=way.kernel, ds_config=None, packing_samples=way.packed)
    actor.model.to(setting.device)
    if way.dtype == torch.float32:
        actor.model.float()  # and not the other way: the frequencies of the positions stay in fp32
    head.fuse(actor, args, "the model")
    return actor.train()


def rows(setting: Setting) -> tuple[torch.Tensor, ...]:
    """Tokens, action mask, attention mask and a weight for every action token of eight rows of unlike lengths."""
    size, generator = sizes(setting), torch.Generator().manual_seed(5)
    length = size.prompt + size.response
    tokens = torch.randint(3, size.vocabulary, (8, length), generator=generator)
    ends = torch.linspace(size.prompt + 1, length, 8).long()
    places = torch.arange(length).unsqueeze(0)
    attention = (places < ends[:, None]).long()
    action = (attention.bool() & (places >= size.prompt))[:, 1:]
    weights = torch.randn(action.shape, generator=generator)
    return tuple(tensor.to(setting.device) for tensor in (tokens, action, attention, weights))
