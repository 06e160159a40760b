"""The controller of a `doctor` run: everything of a training run is up, and instead of training it looks."""

from collections.abc import Callable
from typing import Any

import ray
import torch

from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.audit.findings import LEAST_TOLERANCE, OK, ROUNDINGS, SKIPPED, WRONG, Examined, Finding
from openrlhf_prefix.runtime.controller.trainer import PrefixController
from openrlhf_prefix.runtime.learner.probe import wrong_coefficients
from openrlhf_prefix.runtime.rows.fields import prefix_mask_of

ATTENTION_KERNELS = ("flash", "fmha", "attn", "attention", "sdpa")  # cuDNN's, CUTLASS's, PyTorch's


class DoctorController(PrefixController):
    """PrefixController whose fit() examines; it raises Examined with what it found."""

    def fit(self, global_step: int = 0) -> None:
        self.engines.connect()
        checks = {
            "devices": self._devices,
            "attention": self._attention,
            "accumulation": self._accumulation,
            "weight sync": self._sync,
            "log-probs": self._agreement,
        }
        findings = [examined(name, check) for name, check in checks.items()]
        ray.get([engine.shutdown.remote() for engine in self.vllm_engines])
        raise Examined(findings)

    def _ask(self, method: str) -> list[Any]:
        return ray.get(self.actor_model_group.async_run_method(method_name=method))

    def _devices(self) -> Finding:
        devices = self._ask("device")
        kinds = {device: devices.count(device) for device in devices}
        return Finding("devices", OK, ", ".join(f"{count} rank(s) on {device}" for device, count in kinds.items()))

    def _attention(self) -> Finding:
        """The kernels that a forward pass really ran, not the flag."""
        return attention(self.args.ds.attn_implementation, self._ask("attention_kernels")[0])

    def _accumulation(self) -> Finding:
        flags = self.args
        layout = f"ZeRO-{flags.ds.zero_stage}{', offload' * flags.ds.adam_offload}" + (
            ", dynamic batching" if flags.train.dynamic_batch_enable else ", static batching"
        )
        problem = wrong_coefficients(self._ask("accumulation_coefficients")[0])
        if problem is None:
            return Finding("accumulation", OK, f"{layout}: every micro-batch counts once, none is carried over")
        return Finding("accumulation", WRONG, f"{layout}: {problem}", "use ds.zero_stage 3, and report this")

    def _sync(self) -> Finding:
        """Changed weights arrive, and so do the old ones after them: a sync that moves nothing cannot pass."""
        try:
            for _ in range(2):
                self._ask("flip_lowest_bits")
                self.give(None)
        except RunStopped as error:
            return Finding("weight sync", WRONG, str(error), "check vllm.sync_backend and the engines' logs")
        checked, unchecked = (int(self.weight_check[f"sync/tensors_{kind}"]) for kind in ("checked", "unchecked"))
        detail = f"{checked} tensors equal in {len(self.vllm_engines)} engine(s), {unchecked} not comparable"
        return Finding("weight sync", OK if checked else SKIPPED, detail)

    def _agreement(self) -> Finding:
        """Log-probs of the tokens that the engines sampled, against the actor's."""
        if self.args.train.agent_func_path:
            return Finding("log-probs", SKIPPED, "train.agent_func_path has its own rollouts")
        samples, *_ = self.samples_generator.generate_samples(**self.generate_kwargs)
        batches = self.experience_maker.split_rollout_samples(samples)
        engine = [batch.rollout_log_probs for batch in batches]
        actor = self.experience_maker.log_probs(batches)
        exact = self.experience_maker.log_probs(batches, "forward_in_fp32")
        differences, roundings = (differences_of(batches, actor, others) for others in (engine, exact))
        if not len(differences):
            return Finding("log-probs", SKIPPED, f"preset {self.args.hybrid.preset} samples nothing")
        return agreement(differences, roundings, self.args.ds.param_dtype)


def attention(wanted: str, kernels: list[str] | None) -> Finding:
    """Whether ds.attn_implementation is what ran, by the names of a forward pass's kernels; None without CUDA."""
    if kernels is None:
        return Finding("attention", SKIPPED, f"no CUDA here; it is {wanted}")
    ran = [kernel for kernel in kernels if any(word in kernel.lower() for word in ATTENTION_KERNELS)]
    flash = [kernel for kernel in ran if "flash" in kernel.lower()]
    if "flash" in wanted and not flash:
        mend = "install flash-attn for this torch and CUDA (bash scripts/setup.sh), or set ds.attn_implementation"
        return Finding("attention", WRONG, f"{wanted} asked for, but no such kernel ran", mend)
    named = (flash or ran or ["no kernel of its own, but products and softmax"])[0]
    return Finding("attention", OK, f"{wanted}: {named[:70]}")


def examined(name: str, check: Callable[[], Finding]) -> Finding:
    """What a check finds; one that fails is a finding too, and the others still look."""
    try:
        return check()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return Finding(name, WRONG, f"failed: {reason}", "give --run.verbose for the whole report")


def differences_of(batches: list[Any], ours: list[torch.Tensor], others: list[torch.Tensor]) -> torch.Tensor:
    """|ours - others| of the log-probs of every sampled token; both (B, A), for each batch."""
    rows = zip(batches, ours, others, strict=True)
    return torch.cat([(a - b)[one.action_mask.bool() & ~prefix_mask_of(one)].abs() for one, a, b in rows])


def agreement(differences: torch.Tensor, roundings: torch.Tensor, dtype: str) -> Finding:
    """Whether engine and actor differ by no more than a multiple of what the actor's precision explains."""
    mean, rounding = differences.mean().item(), roundings.mean().item()
    tolerance = max(ROUNDINGS * rounding, LEAST_TOLERANCE)
    detail = (
        f"engine and actor differ by {mean:.4f} (largest {differences.max().item():.3f}, {len(differences)} tokens); "
        f"{dtype} costs the actor {rounding:.4f}, and {tolerance:.4f} would pass"
    )
    if mean < tolerance:
        return Finding("log-probs", OK, detail)
    mend = "compare dtype, attention and position settings of ds.* and vllm.*, or use is_correction_level"
    return Finding("log-probs", WRONG, detail, mend)


DoctorTrainer = ray.remote(DoctorController)
