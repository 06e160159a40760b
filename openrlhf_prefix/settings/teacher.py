"""The teacher that the flags name can judge what the policy writes: one vocabulary, and room for what it is shown.

Its log-probs are of the policy's token ids. A vocabulary that only looks alike would give a run that learns noise.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.checkpoint.kinds import refuse_checkpoint_as_model
from openrlhf_prefix.data import hub
from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.derived import has_teacher, teacher_folder
from openrlhf_prefix.settings.model import check_weights, read_config, read_tokenizer, refuse_code


def check_teacher(args: SimpleNamespace, tokenizer: Any) -> None:
    """A teacher of its own loads, has weights, and knows every token of the policy's `tokenizer` by the same id.

    Raises:
        UserError: in one sentence. A teacher may know more tokens, which the policy never writes.
    """
    name = teacher_folder(args)
    if name is None:
        return
    refuse_checkpoint_as_model(name)
    hub.prepare_model(name)
    if not args.model.trust_remote_code:
        refuse_code(name)
    try:
        sizes = [read_config(args, one).get_text_config().vocab_size for one in (name, args.actor.model_name_or_path)]
        own = read_tokenizer(args, name).get_vocab()
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise hub.refusal(f"teacher.model {name} is no model with a tokenizer: {reason}") from None
    check_weights(name)
    wrong = sorted(token for token, place in tokenizer.get_vocab().items() if own.get(token) != place)
    if wrong:
        raise UserError(
            f"teacher.model {name} has another vocabulary than {args.actor.model_name_or_path}: {len(wrong)} tokens "
            f"have another id there or none, {wrong[0]!r} among them; choose a teacher of the same family"
        )
    if sizes[0] < sizes[1]:
        raise UserError(
            f"teacher.model {name} has {sizes[0]} embeddings, fewer than the {sizes[1]} of "
            f"{args.actor.model_name_or_path}, which may sample an id that it does not know: choose a teacher of the "
            "same family"
        )


def check_context(args: SimpleNamespace, problems: Sequence[Problem]) -> None:
    """What the teacher is to see is there, and fits into its positions. Raises UserError."""
    if not has_teacher(args):
        return
    name = teacher_folder(args) or args.actor.model_name_or_path
    longest, what = args.data.max_len, "data.max_len"
    if args.teacher.context == "demonstration":
        shown = [len(ids) for problem in problems for ids in problem.shown]
        if not shown:
            raise UserError(
                f"{args.data.prompt_dataset} has no demonstration in any row, and the teacher of preset "
                f"{args.hybrid.preset} is to see them: name their column in --prefix.demonstrations_key, or set "
                "--teacher.context plain with a model of its own"
            )
        longest, what = (
            max(shown) + args.rollout.max_new_tokens,
            "the longest prompt with a demonstration and response",
        )
    of_policy = name == args.actor.model_name_or_path and args.model.max_position_embeddings
    limit = of_policy or getattr(read_config(args, name), "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise UserError(
            f"{what}, {longest} tokens, is more than the {limit} positions of the teacher {name}: lower "
            "rollout.max_new_tokens or data.max_len, leave long demonstrations out, or choose another teacher"
        )
