"""What of the controller is saved and restored: upstream's counters and best metric, and the parts that join them.

A checkpoint is the state at the end of its step, before the step's evaluation; the best one knows its score as well. A
run that resumes from either evaluates its step again, beside the next rollouts, as the run did that it goes on.
"""

import time
from typing import Any

import ray

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.store import Store, place
from openrlhf_prefix.runtime.controller.times import Clock
from openrlhf_prefix.runtime.learner.checkpoints import confirm, folder_of, load_controller
from openrlhf_prefix.runtime.learner.states import Attributes, Generators, Stateful, pack, unpack


class Resumable:
    """Mixin of the controller, before OpenRLHF's trainer."""

    def start_states(self) -> None:
        """Called by the constructor; `parts` is where whatever else has a state of its own joins, by name."""
        chosen = self.context.checkpoint
        self.checkpoint = folder_of(self.args) / chosen if chosen else None
        self.parts: dict[str, Stateful] = {"kl": Attributes(self.kl_ctl, ["value"]), "generators": Generators()}
        self.clock = self.parts["clock"] = Clock()
        self.last_states: dict[str, Any] = {}  # what a checkpoint of the last finished step holds of this process
        self.saved = 0  # step of the last complete checkpoint
        self.held_up: dict[str, float] = {}  # seconds that the step waited for a save

    def resume(self) -> None:
        """Goes back to the checkpoint that the driver chose, and makes up for the evaluation that follows it."""
        if self.checkpoint is None:
            return
        confirm(self.checkpoint)
        states = load_controller(self.checkpoint)
        step = states["global_step"]
        self.saved, self.samples_generator.step, self.last_states = step, step, states
        self.clock.first_step = step
        again = bool(self.eval_dataloader) and step % self.args.eval.steps == 0
        self.folder.rewind(step, evaluated=not again)
        self.restore_best_checkpoint_state(states)
        unpack(self.parts, states["parts"])
        self.read_evaluations()
        self.show(f"resumed after step {step}", step)
        if again:
            self.broadcast_to_vllm()
            self.evaluate(step, **self.eval_kwargs())

    def init_checkpoint_states(self) -> dict[str, Any]:
        """Where upstream's loop starts."""
        return {**self.last_states, **self._best()} if self.checkpoint else super().init_checkpoint_states()

    def step_states(self, client_states: dict[str, Any]) -> dict[str, Any]:
        """Upstream's states at the end of a step, and ours."""
        self.last_states = {**client_states, **self._best(), "parts": pack(self.parts)}
        return dict(self.last_states)

    def save_best_checkpoint(self, eval_metrics: Any, global_step: int, client_states: Any = None) -> None:
        before, started = self.best_eval_metric_value, time.time()
        super().save_best_checkpoint(eval_metrics, global_step, client_states)
        if self.best_eval_metric_value > before:
            self.held_up[f"best_global_step{global_step}"] = time.time() - started

    def note_saves(self, wait: bool = False) -> None:
        """Size and time of the checkpoints that have become complete, for the run folder."""
        saves = ray.get(self.actor_model_group.async_run_method(method_name="saves", wait=wait))
        store = Store(folder_of(self.args))
        for tag, seconds in saves[0]:
            self.saved = max(self.saved, place(tag)[0])
            files = manifest.read(store.folder / tag)["files"].values()
            row = {"checkpoint/bytes": sum(entry["size"] for entry in files), "checkpoint/seconds": seconds}
            if tag in self.held_up:
                row["timing/checkpoint"] = self.held_up.pop(tag)
            if leftovers := store.leftovers():
                row["checkpoint/leftovers"] = leftovers
            self.folder.append("metrics", [{"step": place(tag)[0], **row}])
            self.trackers.log_train(place(tag)[0], row)

    def save_last_step(self) -> str:
        """A checkpoint of the last finished step, unless there is one; says which step is saved."""
        step = self.last_states.get("global_step", 0)
        self.note_saves(wait=True)
        if step > self.saved:
            save = self.actor_model_group.async_run_method("save_checkpoint", f"global_step{step}", self.last_states)
            ray.get(save)
            self.note_saves(wait=True)
        if not step or self.args.ckpt.disable_ds:
            return "nothing is saved" + (" (ckpt.disable_ds)" if step else ": no step was finished")
        return f"step {step} is saved"

    def _best(self) -> dict[str, Any]:
        return {
            "best_eval_metric_key": self.best_eval_metric_key,
            "best_eval_metric_value": self.best_eval_metric_value,
            "latest_eval_metric_value": self._latest_eval_metric_value,
        }
