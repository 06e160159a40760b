"""Stages 3 and 4: the policy's training process, without Ray and engines, on rows made up for it.

3  OpenRLHF's actor with our trainer under DeepSpeed ZeRO-3, one rank: three optimizer steps of prefix_rft on the same
   rows, through the real forward, advantages, selection, loss and dealing. The rows with a positive advantage must
   become likelier. Then the trainer sleeps, saves asleep, and makes one more step.
4  Another process resumes from that checkpoint: the same weights, log-probs and next step, and no memory beyond what
   the first process held awake. DeepSpeed's buffers of a sleeping optimizer would be such (checkpoints.py).

On a CPU nothing sleeps: DeepSpeed moves only the states of its fused Adam.
"""

import json
import os
from typing import Any

import torch

from gpu.sizes import model_folder, sizes
from gpu.stage import MIB, Outcome, Setting, check, timed

STEPS, TAG, TOLD, ROWS = 3, "global_step3", "trained.json", "rows.pt"
GROUP = 8


def train(setting: Setting) -> Outcome:
    policy = make_policy(setting)
    _wake(policy)
    rows = made_rows(policy, setting)
    before, first = policy.weight_fingerprints(), weighted(policy, rows)
    seconds, metrics = [], []
    for _ in range(STEPS):
        of_step, measured = timed(setting, lambda: step(policy, rows))
        seconds.append(of_step)
        metrics.append(measured)
    norms = [one["actor_grad_norm"] for one in metrics]
    gain = weighted(policy, rows) - first
    changed = sum(before[name] != value for name, value in policy.weight_fingerprints().items())
    check(all(norm and 0 < norm < float("inf") for norm in norms), f"gradient norms are {norms}")
    check(changed > len(before) / 2, f"only {changed} of {len(before)} weights have moved")
    check(gain > 0, f"log-probs weighted by advantages went by {gain:.2e}: training makes right rows less likely")
    told: dict[str, Any] = {"fingerprints": policy.weight_fingerprints(), "log_probs": weighted(policy, rows)}
    told |= {"awake_MiB": allocated(setting), "states_MiB": states(policy, setting)}
    _sleep(policy)
    told["asleep_MiB"] = allocated(setting)
    if setting.on_gpu:
        ratio = told["asleep_MiB"] / told["awake_MiB"]
        check(ratio < 0.5, f"asleep the trainer holds {ratio:.0%} of what it holds awake")
    told["seconds_to_save"], _ = timed(setting, lambda: policy.save_checkpoint(TAG, {"global_step": STEPS}))
    _wake(policy)
    told["next_gradient_norm"] = step(policy, rows)["actor_grad_norm"]
    torch.save(rows, setting.work / ROWS)
    (setting.work / TOLD).write_text(json.dumps(told), encoding="utf-8")
    adam = type(policy.actor.model.optimizer.optimizer).__name__
    numbers = {"seconds_of_steps": seconds, "gradient_norms": norms, "gain": gain, "adam": adam}
    numbers |= {"peak_MiB": torch.cuda.max_memory_allocated() / MIB if setting.on_gpu else None}
    shown = f"{STEPS} steps of prefix_rft, ZeRO-3, {adam}: the last in {seconds[-1]:.2f} s; right rows likelier"
    return Outcome(shown, numbers | {name: value for name, value in told.items() if name != "fingerprints"})


def resume(setting: Setting) -> Outcome:
    told = json.loads((setting.work / TOLD).read_text(encoding="utf-8"))
    seconds, policy = timed(setting, lambda: make_policy(setting, TAG))
    _wake(policy)
    awake, of_states = allocated(setting), states(policy, setting)
    wrong = [name for name, value in policy.weight_fingerprints().items() if told["fingerprints"][name] != value]
    rows = torch.load(setting.work / ROWS, weights_only=False)
    log_probs = weighted(policy, rows)
    check(not wrong, f"{len(wrong)} of {len(told['fingerprints'])} weights are not those that were saved")
    off = abs(log_probs - told["log_probs"])
    check(off <= 1e-3 * max(1, abs(told["log_probs"])), f"log-probs moved by {off:.1e} in the resume")
    check(of_states <= told["states_MiB"] * 1.01, f"the optimizer holds {of_states:.0f} MiB after a resume")
    if setting.on_gpu:
        extra = awake - told["awake_MiB"]
        check(extra < 0.25 * of_states, f"after a resume the trainer holds {extra:.0f} MiB more than before")
    norm, wanted = step(policy, rows)["actor_grad_norm"], told["next_gradient_norm"]
    check(
        abs(norm - wanted) <= 0.01 * wanted, f"the next step's gradient has the norm {norm:.4f}, and not {wanted:.4f}"
    )
    _sleep(policy)
    numbers = {"awake_before_MiB": told["awake_MiB"], "awake_after_MiB": awake, "asleep_MiB": told["asleep_MiB"]}
    numbers |= {"states_before_MiB": told["states_MiB"], "states_after_MiB": of_states, "seconds_to_resume": seconds}
    held = "" if awake is None else f"; {told['awake_MiB']:.0f} MiB awake before, {awake:.0f} after"
    slept = "saved asleep" if setting.on_gpu else "no sleep on a CPU"
    return Outcome(f"{slept}, resumed: weights equal, optimizer states {of_states:.0f} MiB as before{held}", numbers)


def make_policy(setting: Setting, checkpoint: str | None = None) -> Any:
    """A rank of a run, from the model or from a checkpoint of the run."""
    from openrlhf.utils import get_strategy

    from openrlhf_prefix.runtime.context import RunContext
    from openrlhf_prefix.runtime.learner.actor import PrefixPolicy
    from openrlhf_prefix.settings.config import flatten_namespace
    from openrlhf_prefix.settings.resolve import flags_of

    model, size, run = str(model_folder(setting)), sizes(setting), setting.work / "run"
    args = flags_of(
        {
            "hybrid.preset": "prefix_rft",
            "actor.model_name_or_path": model,
            "actor.num_gpus_per_node": 1,
            "actor.adam.lr": 1e-5 if setting.on_gpu else 1e-3,
            "actor.lr_scheduler": "constant",
            "ckpt.path": str(run / "checkpoints"),
            "ckpt.output_dir": str(run / "export"),
            "ckpt.load_enable": checkpoint is not None,
            "ds.zero_stage": 3,
            "ds.attn_implementation": "sdpa",
            "ds.enable_sleep": setting.on_gpu,
            "train.colocate_all": True,
            "vllm.num_engines": 1,
            "vllm.enable_sleep": True,
            "vllm.sync_backend": "gloo",  # nothing is sent here; for NCCL OpenRLHF asks vLLM for its version
            "rollout.batch_size": size.rows // GROUP,
            "rollout.n_samples_per_prompt": GROUP,
            "rollout.max_new_tokens": size.response,
            "train.batch_size": size.rows,
            "train.micro_batch_size": 4,
        }
    )
    args.local_rank = 0
    RunContext(0.0, checkpoint, {"flags": flatten_namespace(args)}).attach(args)
    policy = PrefixPolicy(1, 0, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    policy.init_model_from_pretrained(get_strategy(args), model, max_steps=10)
    return policy


def made_rows(policy: Any, setting: Setting) -> list[Any]:
    """One optimizer step's rows in groups of eight, one of each from a prefix, with advantages and selection."""
    from openrlhf.trainer.ppo_utils.experience import Experience

    from openrlhf_prefix.algorithm.advantages import group_advantages
    from openrlhf_prefix.algorithm.selection import select_prefix_tokens

    size, generator = sizes(setting), torch.Generator().manual_seed(2)
    length = size.prompt + size.response
    tokens = torch.randint(3, size.vocabulary, (size.rows, length), generator=generator)
    ends = torch.randint(size.prompt + size.response // 2, length + 1, (size.rows,), generator=generator)
    places = torch.arange(length).unsqueeze(0)
    attention = (places < ends[:, None]).long()
    action = (attention.bool() & (places >= size.prompt))[:, 1:]
    prefixed = torch.arange(size.rows) % GROUP == GROUP - 1
    prefix = torch.where(prefixed, size.response // 4, 0)
    flags = policy.strategy.args
    rewards = torch.randint(2, (size.rows,), generator=generator).float()
    rewards[::GROUP], rewards[1::GROUP] = 1.0, 0.0  # every group has something to say
    of_group = group_advantages(
        rewards.view(-1, GROUP), prefixed.view(-1, GROUP), flags.hybrid.estimator, flags.hybrid.baseline
    )
    before = [
        policy.forward(tokens[i : i + 4], action[i : i + 4], attention[i : i + 4]) for i in range(0, len(tokens), 4)
    ]
    entropy, old = (torch.cat([getattr(one, name) for one in before]) for name in ("entropy", "log_probs"))
    of_prefix = action & (action.cumsum(-1) <= prefix[:, None])
    kept = select_prefix_tokens(entropy, of_prefix, flags.prefix.keep, flags.prefix.scope)
    on_prefix = of_group.prefix.flatten()[:, None] * kept
    advantages = torch.where(of_prefix, on_prefix, of_group.continuation.flatten()[:, None] * action)
    return [
        Experience(
            sequences=tokens[i : i + 1, : ends[i]],
            attention_mask=attention[i : i + 1, : ends[i]],
            action_mask=action[i : i + 1, : ends[i] - 1],
            action_log_probs=old[i : i + 1, : ends[i] - 1],
            advantages=advantages[i : i + 1, : ends[i] - 1],
            rewards=rewards[i : i + 1],
            response_length=ends[i : i + 1] - size.prompt,
            total_length=ends[i : i + 1],
            truncated=torch.zeros(1),
            info={"prefix_length": prefix[i : i + 1]},
        )
        for i in range(size.rows)
    ]


def step(policy: Any, rows: list[Any]) -> dict[str, Any]:
    """One optimizer step on the rows; its metrics."""
    from openrlhf_prefix.runtime.rows.batches import deal
    from openrlhf_prefix.runtime.rows.loss import hybrid_loss, trained_tokens, trains

    args = policy.strategy.args
    loss = hybrid_loss(args)
    trained = [trains(trained_tokens(row, loss), args) for row in rows]
    for row in deal(rows, args.train.batch_size, 1, trained):
        policy.trainer.replay_buffer.append(row)
    metrics = policy.fit(0.0)
    check(metrics["skipped_steps"] == 0, "a step was left out: its loss or gradient is not finite")
    return metrics


def weighted(policy: Any, rows: list[Any]) -> float:
    """Mean over the rows of the sum of advantage times log-prob."""
    sums = [
        (policy.forward(row.sequences, row.action_mask, row.attention_mask).log_probs * row.advantages).sum()
        for row in rows
    ]
    return float(torch.stack(sums).mean())


def allocated(setting: Setting) -> float | None:
    """MiB of the GPU that tensors hold; None on a CPU."""
    return torch.cuda.memory_allocated() / MIB if setting.on_gpu else None


def states(policy: Any, setting: Setting) -> float:
    """MiB of the device that the optimizer's state holds, awake: without the host's buffers of a sleeping one."""
    optimizer = policy.actor.model.optimizer.optimizer
    held = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return sum(value.nbytes for value in held if value.device.type == setting.device) / MIB


def _wake(policy: Any) -> None:
    if policy.strategy.args.ds.enable_sleep:
        policy.reload_states()


def _sleep(policy: Any) -> None:
    if policy.strategy.args.ds.enable_sleep:
        policy.offload_states()
