"""Held-out problems during a run: when they are sampled, and what becomes of their scores.

A step's evaluation is sampled with the rollouts of the next one, from the same weights (generator.py), or at once
where rollouts come from older ones (stages.py). Its scores are there before that step trains, so that a best
checkpoint has the weights that were judged.
"""

from typing import Any

import torch

from openrlhf_prefix.evaluation import held_out
from openrlhf_prefix.report.lines import eval_line
from openrlhf_prefix.runtime.controller.generator import Evaluation


class Evaluating:
    """Mixin of the controller, before OpenRLHF's trainer."""

    def start_evaluations(self) -> None:
        """Called by the constructor."""
        self.evaluations: dict[int, dict[str, float]] = {}
        self.evaluated: tuple[int, Evaluation] | None = None  # a step, of which there are no scores yet

    def read_evaluations(self) -> None:
        """Those of the run folder, after a resume."""
        self.evaluations = {row["step"]: _scores(row) for row in self.folder.read("metrics") if _scores(row)}

    def eval_kwargs(self) -> dict[str, Any]:
        return {
            **self.generate_kwargs,
            "temperature": self.args.eval.temperature,
            "n_samples_per_prompt": self.args.eval.n_samples_per_prompt,
        }

    def evaluate(self, global_step: int, **generate_kwargs: Any) -> dict[str, float]:
        """Has held-out problems sampled with the next rollouts; finish_evaluation() has the scores."""
        self.evaluated = global_step, Evaluation(generate_kwargs)
        self.samples_generator.evaluation = self.evaluated[1]
        if self.stages.length:  # what samples next are other weights
            self.give(None)
            self.finish_evaluation()
            if global_step < self.total_steps:
                self.give(self.stages.of(global_step))
        return {}

    @torch.no_grad()
    def finish_evaluation(self) -> None:
        """avg@n (pass1, OpenRLHF's name for it) and pass@n of every source of the held-out problems, if any were to be
        sampled; the weights are still those that were evaluated."""
        if self.evaluated is None:
            return
        (step, evaluation), self.evaluated = self.evaluated, None
        self.samples_generator.evaluated(evaluation)
        logs = self._record_evaluation(step, evaluation)
        if step:
            self.save_best_checkpoint(logs, step, dict(self.last_states))

    def _record_evaluation(self, global_step: int, evaluation: Evaluation) -> dict[str, float]:
        samples, size = evaluation.samples, evaluation.options["n_samples_per_prompt"]
        failed = [bool(sample.info["reward_failed"]) for sample in samples]
        rewards = [None if lost else float(one.rewards) for one, lost in zip(samples, failed, strict=True)]
        groups = [rewards[start : start + size] for start in range(0, len(rewards), size)]
        problems = [(problem.id, problem.source) for problem in self.eval_dataloader.problems]
        tallies = held_out.tally(problems, groups)
        logs = self.evaluations[global_step] = held_out.accuracies(tallies, size)
        extra = {
            "eval_truncated_rate": sum(bool(sample.truncated) for sample in samples) / len(samples),
            "eval_rewards_failed": float(sum(failed)),
            "timing/evaluation": evaluation.seconds,
        }
        self.folder.append("evaluations", [one.row(global_step) for one in tallies])
        self.folder.append("metrics", [{"step": global_step, **logs, **extra}])
        self.note_failures(global_step, evaluation.failures)
        self.show(eval_line(global_step, logs, sum(failed), len(samples)), global_step)
        self.say(self.report.refresh(), global_step)
        self.trackers.log_eval(global_step, logs | extra)
        return logs


def _scores(row: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if key.startswith("eval_") and "_pass" in key}
