"""The controller: OpenRLHF's PPO loop with the prefix schedule, held-out evaluation and the run folder.

Upstream's fit() runs unchanged; a step is ours: rows from the experience maker, an update, the weights to the engines,
and what a person or a program wants to read into the run folder.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import ray
from openrlhf.trainer.ppo_trainer import BasePPOTrainer, PPOTrainer
from openrlhf.utils.utils import get_tokenizer

from openrlhf_prefix.data.order import ProblemLoader
from openrlhf_prefix.errors import EngineLost, RunPaused
from openrlhf_prefix.evaluation import held_out
from openrlhf_prefix.report.lines import given_away, step_line
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.report.signal import Silence
from openrlhf_prefix.runtime import context, deadlines
from openrlhf_prefix.runtime.controller.about import about
from openrlhf_prefix.runtime.controller.contrast import Contrasting
from openrlhf_prefix.runtime.controller.demonstrations import Demonstrations
from openrlhf_prefix.runtime.controller.engines import Engines
from openrlhf_prefix.runtime.controller.evaluating import Evaluating
from openrlhf_prefix.runtime.controller.experience_maker import PrefixExperienceMaker
from openrlhf_prefix.runtime.controller.generator import PrefixSamplesGenerator
from openrlhf_prefix.runtime.controller.irl import RewardLearning
from openrlhf_prefix.runtime.controller.live_report import LiveReport
from openrlhf_prefix.runtime.controller.masking import Masking
from openrlhf_prefix.runtime.controller.rescue import Rescue
from openrlhf_prefix.runtime.controller.resumable import Resumable
from openrlhf_prefix.runtime.controller.rollout_log import RolloutLog
from openrlhf_prefix.runtime.controller.sending import Sending
from openrlhf_prefix.runtime.controller.stages import Stages
from openrlhf_prefix.runtime.controller.stopping import Stopping
from openrlhf_prefix.runtime.controller.supervised import SupervisedStage
from openrlhf_prefix.runtime.controller.teacher import Teacher
from openrlhf_prefix.runtime.controller.times import Times
from openrlhf_prefix.runtime.controller.trackers import Trackers
from openrlhf_prefix.runtime.controller.weight_check import WeightCheck
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.seams import undecorated
from openrlhf_prefix.settings import plugins
from openrlhf_prefix.settings.derived import (
    contrasts,
    has_teacher,
    imitation_coef,
    make_sampler,
    prefixed_rows,
    scheduled_steps,
    sft_interval,
    sft_steps,
    validation_size,
)
from openrlhf_prefix.settings.model import stop_ids
from openrlhf_prefix.settings.secrets import for_servers, wandb_key


class PrefixController(Resumable, Evaluating, Sending, undecorated(PPOTrainer)):
    """OpenRLHF's PPOTrainer with our generator and experience maker."""

    def __init__(self, pretrain: str, strategy: Any, *groups: Any, secrets: Mapping[str, str], **kwargs: Any) -> None:
        args = strategy.args
        plugins.load(args.hybrid.plugin)  # a length controller, or what trains, may be one of its rows
        self.context = context.take(args)
        deadlines.install(self.context.board)
        *groups, engines, teacher = groups
        reference, groups[-1] = groups[-1], groups[-1] if args.algo.kl.init_coef else None  # which is that of the KL
        for flags, name in ((args.eval, "steps"), (args.ckpt, "save_steps")):
            if getattr(flags, name) == -1:  # upstream's way to say never
                setattr(flags, name, float("inf"))
        tokenizer = get_tokenizer(pretrain, None, "left", strategy, use_fast=not args.data.disable_fast_tokenizer)
        train, held_out, *examples = ray.get(self.context.problems)
        self.folder, self.board = RunFolder(args.run.dir), self.context.board
        self.stopping = Stopping(args.ckpt, self.context)
        self.prompts_dataloader = ProblemLoader(train, args.rollout.batch_size, seed=args.train.seed)
        self.eval_dataloader = ProblemLoader(held_out) if held_out else None
        self.generate_kwargs = kwargs
        self.total_steps = len(self.prompts_dataloader) // args.rollout.batch_size * args.train.num_episodes
        self.max_steps = scheduled_steps(args, self.total_steps)
        self.sampler = make_sampler(args, self.total_steps)
        self.engines = Engines(engines, args, for_servers(secrets), rejoin=self._rejoin, watch=self.stopping.check)
        if args.train.colocate_all and adapter.current().name == "cuda":
            self.engines.connect()  # they measure the memory of their GPUs: no trainer may load there meanwhile
        self.samples_generator = self._generator(strategy, tokenizer)
        # PPOTrainer's own constructor would read the data once more and build upstream's generator.
        with wandb_key(secrets):
            BasePPOTrainer.__init__(self, strategy, *groups, engines, tokenizer)
        # Upstream calls the one as it would call either.
        self.trackers = self.wandb_logger = Trackers(self.wandb_logger, self.tensorboard_logger)
        self.tensorboard_logger = None
        demonstrations = Demonstrations(train, args.train.seed, tokenizer.eos_token_id, validation_size(args, train))
        self.teacher = Teacher(args, self.total_steps, train, stop_ids(args, tokenizer), teacher)
        self.stages = Stages(args, self.total_steps, self.actor_model_group)
        self.experience_maker = PrefixExperienceMaker(
            *groups,
            self.kl_ctl,
            strategy,
            tokenizer,
            sampler=self.sampler,
            rescue=Rescue(args, demonstrations),
            reference=reference,
            teacher=self.teacher,
            contrasting=Contrasting(args, self.stages),
        )
        self.learning = RewardLearning(args)
        self.masking = Masking(self, demonstrations, *examples)
        supervised = sft_steps(args, self.total_steps), sft_interval(args, self.total_steps)
        self.supervised = SupervisedStage(self, demonstrations, *supervised)
        self.resume_at: dict[str, Any] = {}  # where upstream's loop begins, once the supervised stage is over
        self.start_records()
        self.start_evaluations()
        self.join_states()

    def _generator(self, strategy: Any, tokenizer: Any) -> PrefixSamplesGenerator:
        return PrefixSamplesGenerator(
            sampler=self.sampler,
            engines=self.engines,
            end=tokenizer.eos_token_id,
            budget=strategy.args.rollout.max_new_tokens,
            strategy=strategy,
            prompts_dataloader=self.prompts_dataloader,
            eval_dataloader=self.eval_dataloader,
            tokenizer=tokenizer,
            vllm_engines=self.engines.handles,
        )

    def join_states(self) -> None:
        """What is learnt of problems goes into checkpoints; trust, partitions and rewards only where there are any."""
        self.start_states()
        self.parts |= {"lengths": self.sampler.controller, "supervised": self.supervised}
        self.parts["rescue"] = self.experience_maker.rescue
        if self.sampler.trust:
            self.parts["trust"] = self.sampler.trust
        if self.experience_maker.contrasting.contrast:
            self.parts["contrast"] = self.experience_maker.contrasting.contrast
        if self.learning.head:
            self.parts["reward"] = self.learning.head

    def start_records(self) -> None:
        """What a person will see of the run, and what is looked at for them."""
        self.check = WeightCheck(self.args.run.check_weights_every)
        self.weight_check: dict[str, float] = {}
        self.rollout_log = RolloutLog(self.folder, self.trackers, self.tokenizer, self.args)
        self.report = LiveReport(self.folder.path, self.args.run.report_seconds)
        self.silence = Silence()
        self.warned = False  # of prefixes that are right by themselves: once a run

    def fit(self, global_step: int = 0) -> None:
        self.engines.connect()
        self.teacher.load(self.strategy)
        self.clock.begin()
        known = [problem for problem in self.prompts_dataloader.problems if problem.pass_rate is not None]
        self.sampler.controller.know({problem.id: problem.pass_rate for problem in known})
        try:
            self.resume()
            self.masking.make()
            problems = len(self.prompts_dataloader), len(self.eval_dataloader or ())
            self.folder.write_about(about(self.total_steps, *problems))
            step = self.samples_generator.step
            if self.eval_dataloader and not self.saved and self.args.run.eval_at_start:
                self.evaluate(step, **self.eval_kwargs())
            if step < self.supervised.end:  # no rollouts come, which the evaluation could be sampled with
                self.finish_evaluation()
            if (after := self.supervised.run(step)) > step:
                self.samples_generator.step, self.resume_at = after, self.supervised.position(after)
            super().fit(after)
            step = self.samples_generator.step
            if self.eval_dataloader and step not in self.evaluations:
                self.evaluate(step, **self.eval_kwargs())
            self.finish_evaluation()
            self.note_saves(wait=True)
        except (RunPaused, EngineLost) as stop:
            raise type(stop)(f"{stop.args[0]}; {self.save_last_step()}") from None
        except Exception:
            with contextlib.suppress(ray.exceptions.RayActorError):  # of a trainer that has died
                self.note_saves(wait=bool(self.held_up))
            raise
        finally:
            self.rollout_log.wait()
            self.trackers.finish()
        self.write_summary(step)
        self.say(self.report.finish(), step)
        self.close()

    def close(self) -> None:
        ray.get([engine.shutdown.remote() for engine in self.vllm_engines])

    def init_checkpoint_states(self) -> dict[str, Any]:
        return super().init_checkpoint_states() | self.resume_at

    def train_step(self, rollout_samples: list, global_step: int) -> tuple[dict[str, Any], int]:
        """Upstream's, but our experience maker returns metrics too, and rows that are dealt out (batches.py)."""
        self.finish_evaluation()
        times = Times()
        with times("make_experience"):
            learnt = self.learning.judge(rollout_samples, self.experience_maker)
            batch = self.experience_maker.make(rollout_samples, global_step)
        self.train_on(batch.rows)
        with times("ppo_train"):
            status = self.ppo_train(global_step)
        self.samples_generator.step = step = global_step + 1
        with times("broadcast"):
            self.stages.begin(step)
            self.broadcast_to_vllm()
        status |= learnt | {name: value for name, value in batch.metrics.items() if value is not None}
        if "kl" in status:
            self.kl_ctl.update(status["kl"], len(rollout_samples))
        self.sampler.controller.step_over()
        self.rollout_log.write(batch.rollouts, step)
        return status | self.weight_check | times.spent, step

    def train_on(self, rows: list) -> None:
        """Every rank gets its share of the rows for the next ppo_train()."""
        ray.get(self.actor_model_group.async_run_method_batch(method_name="append", experience=rows))

    def ppo_train(self, global_steps: int) -> dict[str, Any]:
        """Training metrics and, beside them, those of the schedule."""
        low, high = self.sampler.schedule.window(global_steps)
        every, supervised = self.args.prefix.gradient_every, global_steps < self.supervised.end
        controller, coef = self.sampler.controller, imitation_coef(self.args, global_steps, self.total_steps)
        if self.args.hybrid.imitation_gap:
            coef *= controller.share
        settings = {
            "imitation_coef": 1.0 if supervised else coef,
            "measure_prefix": bool(every and prefixed_rows(self.args) and not contrasts(self.args))
            and global_steps % every == 0
            and not supervised,
            "supervised": supervised,
            "teacher_coef": self.teacher.coef(global_steps),
        }
        ray.get(self.actor_model_group.async_run_method(method_name="prepare", **settings))
        status = super().ppo_train(global_steps)
        known = {name: value for name, value in status.items() if value is not None}
        of_teacher = {"teacher/coef": self.teacher.coef(global_steps)} if has_teacher(self.args) else {}
        return known | {"prefix/low": low, "prefix/high": high} | controller.metrics() | of_teacher

    def save_logs_and_checkpoints(
        self, global_step: int, logs_dict: dict | None = None, client_states: Any = None
    ) -> None:
        metrics = {key: value for key, value in (logs_dict or {}).items() if isinstance(value, (int, float))}
        if self.engines.deaths:
            metrics["engines_replaced"] = float(self.engines.deaths)
            self.show(f"replaced {self.engines.deaths} engine(s) that died", global_step)
        self.folder.append("metrics", [{"step": global_step, **metrics}])
        self.note_failures(global_step, self.samples_generator.failures)
        self.show(step_line(global_step, self.total_steps, metrics), global_step)
        self.say(self.silence.after(metrics), global_step)
        if not self.warned and (warning := given_away(metrics)):
            self.warned = True
            self.show(warning, global_step)
        if global_step % self.args.ckpt.save_steps == 0:
            self.rollout_log.wait()  # a run that goes on from the checkpoint has all of them
        started = time.time()
        # Upstream saves on its own schedule, and logs beside it.
        super().save_logs_and_checkpoints(global_step, metrics, self.step_states(client_states or {}))
        if global_step % self.args.ckpt.save_steps == 0:
            self.held_up[f"global_step{global_step}"] = time.time() - started
        self.note_saves()
        self.engines.deaths = 0
        self.say(self.report.refresh(), global_step)
        if self.engines.lost:
            raise self.engines.lost
        self.stopping.step_done()

    def note_failures(self, global_step: int, failures: list[dict[str, Any]]) -> None:
        """Rewards that failed go into the run folder, with their tracebacks."""
        self.folder.append("reward_failures", [{"step": global_step, **failure} for failure in failures])

    def write_summary(self, step: int) -> None:
        paths = {"export": self.args.ckpt.output_dir, "run folder": str(self.folder.path)}
        paths |= {"report": str(self.folder.path / "report.html")} if self.report.seconds else {}
        base, trained = (self.evaluations.get(at, {}) for at in (0, step))
        tallies = held_out.read(self.folder.read("evaluations"))
        gains = held_out.gains(tallies.get(0, []), tallies.get(step, []), self.args.eval.n_samples_per_prompt)
        scores = {"base": base, "trained": trained, "gains": gains}
        self.folder.write_summary({**scores, **self.clock.summary(step), "paths": paths})

    def say(self, text: str | None, step: int) -> None:
        """Shows a text where there is one."""
        if text:
            self.show(text, step)

    def show(self, text: str, step: int) -> None:
        ray.get(self.board.put.remote(text, step, self.total_steps))


PrefixTrainer = ray.remote(PrefixController)
