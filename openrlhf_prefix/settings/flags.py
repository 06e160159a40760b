"""Our flags, in groups beside OpenRLHF's; checks/ refuses those that cannot hold together.

A flag whose default is None takes the value of the chosen preset (preset_flags.py).
"""

import argparse

from openrlhf_prefix.algorithm.advantages import BASELINES, ESTIMATORS
from openrlhf_prefix.algorithm.compat import COMPAT
from openrlhf_prefix.algorithm.contrast import RULES
from openrlhf_prefix.algorithm.controllers import CONTROLLERS
from openrlhf_prefix.algorithm.imitation import IMITATION, POLICY
from openrlhf_prefix.algorithm.lengths import MOST_TOKENS
from openrlhf_prefix.algorithm.losses import DIVISORS
from openrlhf_prefix.algorithm.mask import SCORES
from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.algorithm.schedules import SHAPES
from openrlhf_prefix.algorithm.selection import SCOPES
from openrlhf_prefix.algorithm.teacher import CONTEXTS, ON, SELF
from openrlhf_prefix.arguments import boolean
from openrlhf_prefix.reward.answer import FALLBACKS

DEMONSTRATIONS = ("prefix", "whole")
MEANS = ("policy", "tokens")
SAMPLED = ("advantage", "likelihood", "right")
RESCUES = ("none", "replace", "buffer")
ON_ERROR = ("mask", "zero", "raise")
LONG_PROMPTS = ("refuse", "drop")
FUSED_HEAD = ("auto", "on", "off")
OLD_LOG_PROBS = ("auto", "always")
LONG_DEMONSTRATIONS = ("refuse", "drop", "truncate")
MATH_VERIFY = "math-verify"  # the value of --reward.remote_url that stands for our own verifier


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds our groups to OpenRLHF's parser."""
    of_method = (_add_hybrid, _add_prefix, _add_teacher, _add_contrast, _add_irl, _add_mask)
    for add_group in (*of_method, _add_model, _add_data, _add_verifier, _add_reward, _add_run):
        add_group(parser)


def _add_hybrid(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("hybrid", "the method and its loss")
    add = group.add_argument
    add("--hybrid.preset", choices=list(PRESETS), default="prefix_rft", help="row of the table of methods")
    add("--hybrid.estimator", choices=ESTIMATORS, help="group advantage; the two with _prefix are the authors' code")
    add(
        "--hybrid.baseline", choices=BASELINES, help="rows that form the baseline: all, or plain ones without a prefix"
    )
    add(
        "--hybrid.sampled",
        choices=SAMPLED,
        help="what sampled tokens are weighted with; likelihood is SRFT's, right 1 or 0",
    )
    add("--hybrid.divisor", choices=DIVISORS, help="of the loss; constant: rows x budget, as in Dr. GRPO")
    add("--hybrid.demonstration", choices=DEMONSTRATIONS, help="rows start from a prefix of it, or are the whole")
    add("--hybrid.imitation", choices=[POLICY, *IMITATION], help="what demonstration tokens train with")
    add("--hybrid.imitation_coef", type=float, help="weight of that term at the first step")
    add("--hybrid.imitation_end", type=float, help="weight at imitation_steps, by a cosine")
    add("--hybrid.imitation_steps", type=int, help="steps until then; not set: those of the run")
    add("--hybrid.f_beta", type=float, default=0.5, help="f_...: scale of the log-ratio to the policy before the run")
    add("--hybrid.imitation_mean", choices=MEANS, help="one divisor with the policy's term, or each its own tokens")
    add("--hybrid.imitation_gap", type=boolean, help="times what prefix.controller gap has left of the prefixes")
    add("--hybrid.convex", type=boolean, help="the policy's term has 1 - the imitation term's weight")
    add("--hybrid.clip", type=boolean, help="PPO-clip at all")
    add("--hybrid.clip_prefix", type=boolean, help="PPO-clip on prefix tokens too")
    add("--hybrid.buffer", type=int, help="problems that make a step of rescue buffer; not set: train.batch_size")
    add(
        "--hybrid.rescue",
        choices=RESCUES,
        help="of groups with at most hybrid.gate right samples: a demonstration takes their place (replace), or waits "
        "for a supervised step (buffer)",
    )
    add("--hybrid.gate", type=int, default=0, help="right samples up to which a group is one of them")
    add("--hybrid.plugin", help="Python file that adds rows of your own to the tables of methods")

    group = parser.add_argument_group("supervised stage", "steps on whole demonstrations before the first rollout")
    add = group.add_argument
    add("--hybrid.sft_steps", type=int, help="how many; -1: half of the run")
    add("--hybrid.sft_lr", type=float, help="their learning rate; not set: actor.adam.lr")
    add("--hybrid.sft_imitation", choices=list(IMITATION), help="what their tokens train with")
    add(
        "--hybrid.sft_validate",
        type=int,
        help="end at the first rise of the loss on held-out demonstrations, measured every so many steps; -1: a tenth "
        "of the stage; 0: never",
    )


def _add_prefix(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("prefix", "which rows start from a demonstration, and how much of it they get")
    add = group.add_argument
    add("--prefix.prefixed_per_group", type=int, help="rows of a group that start from a demonstration; -1: all")
    add("--prefix.keep", type=float, help="share of the prefix tokens that train, the most uncertain ones")
    add(
        "--prefix.scope", choices=SCOPES, default="batch", help="what they are ranked over: rollout batch, or each row"
    )
    add("--prefix.low_start", type=float, default=0.95, help="lower bound of the prefix ratio at the first step")
    add("--prefix.low_end", type=float, default=0.05, help="lower bound of the prefix ratio at total_steps")
    add("--prefix.high", type=float, default=0.95, help="upper bound of the prefix ratio")
    add("--prefix.shape", choices=list(SHAPES), default="cosine", help="how the lower bound moves")
    add("--prefix.total_steps", type=int, help="steps until low_end; not set: prefix.span of the run")
    add("--prefix.span", type=float, help="share of the run until low_end")
    add("--prefix.controller", choices=list(CONTROLLERS), help="what decides on the length of a prefix")
    add("--prefix.stages", type=float, nargs="*", default=[0.5, 0.25], help="shares; staged: in turn, cuts: by chance")
    add("--prefix.chunks", type=int, default=5, help="binomial: parts of a demonstration")
    add("--prefix.target", type=float, default=0.4, help="adaptive: mean reward below which a problem is given more")
    add("--prefix.plain", type=float, default=0.1, help="adaptive: share of the visits without a prefix")
    add("--prefix.goal", type=float, default=1.0, help="gap: score of plain rows at which prefixes end for good")
    add("--prefix.scores", type=int, default=10, help="gap: steps whose scores are averaged")
    add("--prefix.tokens", type=int, default=MOST_TOKENS, help="ratio: tokens of a prefix at the first step")
    add(
        "--prefix.trust",
        type=float,
        default=0.0,
        help="above 0: demonstrations that mislead are drawn less; right rows that each is credited with beforehand",
    )
    add("--prefix.min_tokens", type=int, default=1, help="tokens that a prefix has at the least")
    add("--prefix.demonstrations_key", default="demonstrations", help="column that holds the demonstrations")
    add(
        "--prefix.demonstration_fraction",
        type=float,
        default=1.0,
        help="share of the problems that keep their demonstrations; smaller ones lie within larger ones",
    )
    add("--prefix.stop_before_answer", type=boolean, default=True, help="no prefix reaches the answer (its last box)")
    add(
        "--prefix.long_demonstrations",
        choices=LONG_DEMONSTRATIONS,
        default="refuse",
        help="those above rollout.max_new_tokens; truncate is for prefixes only",
    )
    add("--prefix.in_kl", type=boolean, default=False, help="KL loss on prefix tokens too, which nobody sampled")
    add("--prefix.in_entropy", type=boolean, help="entropy bonus on prefix tokens too")
    add(
        "--prefix.gradient_every",
        type=int,
        default=20,
        help="rollout batches between two measurements of the prefix "
        "tokens' own gradient, which cost one more pass over an optimizer step; 0 never",
    )
    add(
        "--prefix.compat",
        choices=list(COMPAT),
        default="paper",
        help="official: defaults of the authors' code where it differs from the paper (docs/55-official-code.md)",
    )


def _add_teacher(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("teacher", "distillation on sampled tokens, a term of the loss")
    add = group.add_argument
    add("--teacher.model", help=f"folder or hub name of the teacher; {SELF}: the policy in the other context")
    add("--teacher.context", choices=CONTEXTS, help="its prompt is the policy's, or one that shows a demonstration")
    add("--teacher.template", help="that prompt, with {prompt} and {demonstration} in it; not set: after SDFT's")
    add("--teacher.coef", type=float, help="weight of its term at the first step; 0: no teacher")
    add("--teacher.end", type=float, help="weight at its last step, linearly; not set: it stays")
    add("--teacher.steps", type=int, help="steps after which it is withdrawn; 0: never, -1: half of the run")
    add("--teacher.on", choices=ON, help="rows that it acts on; failed: of groups with at most hybrid.gate right ones")
    add("--teacher.instead", type=boolean, help="those rows have no reward advantage")
    add("--teacher.clamp", type=float, default=10.0, help="bound of its log-ratio to the policy, a token")
    add("--teacher.num_nodes", type=int, help="nodes of the teacher; not set: actor.num_nodes")
    add("--teacher.num_gpus_per_node", type=int, help="GPUs of each; not set: actor.num_gpus_per_node")
    add("--teacher.offload", action="store_true", default=False, help="its parameters lie in host memory")


def _add_contrast(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "contrast", "a demonstration against the policy's own samples, a term of the loss"
    )
    add = group.add_argument
    add("--contrast.rule", choices=RULES, help="how much each row is pulled up or pushed down; none: no such term")
    add("--contrast.tau", type=float, help="partition: temperature of the policy's log-probs in a score")
    add("--contrast.gamma", type=float, help="partition: share of the new samples in a problem's moving partition")
    add("--contrast.cap", type=float, default=10.0, help="partition: largest weight of a sample")
    add("--contrast.beta", type=float, default=0.1, help="pair: scale of the log-ratio to the older policy, as in DPO")
    add(
        "--contrast.stages",
        type=int,
        help="parts of the run at whose starts the policy is kept, to sample in its place; 0: the current one samples",
    )
    add("--contrast.snapshots", type=int, default=1, help="how many are kept, of which each step draws one")


def _add_irl(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("irl", "a reward learnt from demonstrations, for problems without a verifier")
    add = group.add_argument
    add("--irl.lr", type=float, help="step size of its weights, one step a rollout batch; 0: rewards are given")


def _add_mask(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("mask", "a share of the weights trains, and the others stay as they are")
    add = group.add_argument
    add("--mask.method", choices=list(SCORES), help="score that chooses the weights before the run; not set: no mask")
    add("--mask.share", type=float, help="of the scored weights; not set: 0.01, with retain_freeze 0.1")
    add("--mask.examples", type=int, default=1024, help="demonstrations that are passed through for it, at the most")
    add("--mask.file", help="rows with demonstrations for it; not set: those of the training set")
    add("--mask.update_steps", type=int, default=0, help="steps until it is chosen anew; 0, never, is all there is")


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model", "the config that trainer, engines and export share")
    add = group.add_argument
    add("--model.rope_theta", type=float, help="in place of the model's own, in the export too")
    add("--model.max_position_embeddings", type=int, help="in place of the model's own")
    add(
        "--model.trust_remote_code",
        action="store_true",
        default=False,
        help="run Python code that comes with a model, which is refused without it",
    )

    group = parser.add_argument_group("actor", "beside OpenRLHF's own actor flags")
    add = group.add_argument
    add(
        "--actor.fused_head",
        choices=FUSED_HEAD,
        default="auto",
        help="log-probs without the logits of all tokens: where the model allows it (auto); on refuses others",
    )
    add(
        "--actor.old_log_probs",
        choices=OLD_LOG_PROBS,
        default="auto",
        help="auto: where a rollout batch is one optimizer step, those of the training pass itself, whose ratio is 1; "
        "always: a pass of their own over all rows",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data", "beside OpenRLHF's own data flags")
    group.add_argument(
        "--data.long_prompts", choices=LONG_PROMPTS, default="refuse", help="with no room left in data.max_len"
    )

    group = parser.add_argument_group("rollout", "beside OpenRLHF's own rollout flags")
    add = group.add_argument
    add("--rollout.stop_strings", nargs="*", default=[], help="a response ends with one of these, which it keeps")
    add("--rollout.stop_token_ids", nargs="*", type=int, default=[], help="beside those of tokenizer and model")


def _add_verifier(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("verifier", "the built-in math-verify reward")
    add = group.add_argument
    add("--verifier.workers", type=int, default=2, help="verifier processes per engine")
    add("--verifier.timeout", type=float, default=5.0, help="seconds that one answer may take")
    add(
        "--verifier.memory_mb",
        type=int,
        default=2048,
        help="address space of a verifier process, its imports (about 60 MB) included",
    )
    add("--verifier.fallback", choices=list(FALLBACKS), default="none", help="answer of a response without a box")


def _add_reward(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reward policy", "deadlines of the user's rewards, and what a failed one means")
    add = group.add_argument
    add(
        "--reward.on_error",
        choices=ON_ERROR,
        default="mask",
        help="a failed reward takes its row out of group statistics and loss (mask), counts 0 (zero), or ends the run",
    )
    add("--reward.error_limit", type=float, default=0.1, help="share of failed rewards in a step that ends the run")
    add("--reward.timeout", type=float, default=60.0, help="seconds that a reward function or server has for a sample")
    add("--reward.workers", type=int, default=2, help="processes per engine that run a reward file")


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run", "the run folder and what is shown")
    add = group.add_argument
    add("--run.dir", help="run folder")
    add("--run.rollout_groups", type=int, default=4, help="groups a step that rollouts.jsonl keeps; -1 keeps all")
    add("--run.report_seconds", type=float, default=60.0, help="from one report.html to the next; 0 makes none")
    add("--run.wait_seconds", type=float, default=120.0, help="deadline of nodes and GPUs before a model loads")
    add("--run.phase_seconds", type=float, default=3600.0, help="deadline of an answer of a rank or an engine")
    add("--run.verbose", action="store_true", default=False, help="show what the Ray workers print")
    add("--run.check_weights_every", type=int, default=10, help="syncs from one check to the next, after the first 5")
    add(
        "--run.background_save",
        type=boolean,
        default=True,
        help="write checkpoints while the next steps run, from a copy of weights and optimizer in host memory",
    )
    add("--run.eval_at_start", type=boolean, default=True, help="evaluate the base model before the first step")

    group = parser.add_argument_group("ckpt", "beside OpenRLHF's own checkpoint flags")
    add = group.add_argument
    add("--ckpt.time_limit", type=float, help="seconds that the job has, from the start of this command")
    add("--ckpt.save_before", type=float, default=300.0, help="of them, seconds kept for a last save; exit code 75")
