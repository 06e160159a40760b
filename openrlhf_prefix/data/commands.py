"""The verbs below `data` that need no model: check, import and stats, from the command line to what does the work."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.data import formats, hub
from openrlhf_prefix.data.check import Settings, survey
from openrlhf_prefix.data.convert import convert
from openrlhf_prefix.data.files import check_template
from openrlhf_prefix.data.findings import table
from openrlhf_prefix.data.gym import rows as gym
from openrlhf_prefix.data.prompts import Prompts
from openrlhf_prefix.data.rows import Columns
from openrlhf_prefix.data.stats import stats
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.reward import MathVerifier
from openrlhf_prefix.reward.answer import FALLBACKS


def parser(*more: Callable[[Any], None]) -> Parser:
    """Of the whole verb; each of `more` adds one below it. The one that was chosen is `run` of the options."""
    parser = parser_of("data", "Problems checked, converted, drawn, sampled.")
    verbs = parser.add_subparsers(required=True)
    _add_check_import_stats(verbs)
    for add in more:
        add(verbs)
    verbs.metavar = f"{{{','.join(verbs.choices)}}}"
    return parser


def _add_check_import_stats(verbs: Any) -> None:
    check = below(verbs, "check", "what is wrong with a set of problems")
    check.set_defaults(run=_check)
    check.add_argument("file", metavar="FILE", help="JSONL, parquet, a `datasets` folder or hub name")
    check.add_argument("--eval", help="problems that must not be among those of FILE; checked as well")
    check.add_argument("--max_len", type=int, help="context in tokens (data.max_len of the run)")
    check.add_argument("--max_new_tokens", type=int, help="tokens of a response (rollout.max_new_tokens of the run)")
    check.add_argument("--fallback", choices=list(FALLBACKS), default="none", help="verifier.fallback of the run")
    check.add_argument("--no_verify", action="store_true", help="leave golds and demonstrations unread")
    check.add_argument("--no_answers", action="store_true", help="FILE needs none: its rewards are learnt (irl.lr)")
    check.add_argument("--show", type=int, default=10, help="findings of each kind that are named")

    read = below(verbs, "import", "convert a published layout to the row contract")
    read.set_defaults(run=_import)
    read.add_argument("format", metavar="FORMAT", help=f"{', '.join(formats.FORMATS)}, {gym.NAME}; --list says more")
    read.add_argument(
        "source", metavar="IN", help=f"JSONL, parquet, a `datasets` folder or hub name; of {gym.NAME} a task"
    )
    read.add_argument("target", metavar="OUT", type=Path, help=".jsonl file to write")
    read.add_argument("--list", action=_List, nargs=0, help="name the formats, one a line, and stop")
    read.add_argument("--split", default="train", help="of a `datasets` folder or hub name")
    read.add_argument("--skip_bad", action="store_true", help="leave unreadable rows out and count them")
    read.add_argument("--rows", type=int, default=1000, help=f"{gym.NAME}: problems to draw")
    read.add_argument("--seed", type=int, default=0, help=f"{gym.NAME}: of the problems")
    read.add_argument("--shots", type=int, default=0, help=f"{gym.NAME}: worked examples before every question")
    read.add_argument("--set", nargs="+", default=[], help=f"{gym.NAME}: KEY=VALUE, of the task's settings")
    read.add_argument("--without", nargs="+", default=[], help=f"{gym.NAME}: files whose questions are passed over")

    draw = below(verbs, "stats", "histograms of lengths and answers")
    draw.set_defaults(run=_stats)
    draw.add_argument("file", metavar="FILE", help="JSONL, parquet, a `datasets` folder or hub name")
    draw.add_argument("target", metavar="OUT", type=Path, help=".png file to write")

    for verb in (check, draw):
        verb.add_argument("--model", help="HF folder or hub name: lengths in its tokens, chat template included")
        verb.add_argument("--trust_remote_code", action="store_true", help="run the Python code that the model brings")
        verb.add_argument("--no_chat_template", action="store_true", help="a run without data.apply_chat_template")
        verb.add_argument("--input_template", help="data.input_template of the run, in place of the chat template")
        verb.add_argument("--split", default="train", help="of a `datasets` folder or hub name")
        verb.add_argument("--input_key", default="prompt", help="column of the problems")
        verb.add_argument("--label_key", default="answer", help="column of the answers")
        verb.add_argument("--demonstrations_key", default="demonstrations", help="column of the demonstrations")


class _List(argparse.Action):
    """Needs no other argument, as --help does not."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(formats.listing())
        print(f"{gym.NAME} draws one of its tasks, such as IN = chain_sum: --rows, --seed, --shots, --set, --without")
        parser.exit()


def below(verbs: Any, name: str, summary: str) -> Parser:
    """The parser of one of them."""
    return verbs.add_parser(name, help=summary, description=summary)


def _check(options: argparse.Namespace) -> None:
    if (options.max_len is None) != (options.max_new_tokens is None):
        raise UserError("--max_len and --max_new_tokens belong together: give both, or neither")
    if options.max_len is not None and options.model is None:
        raise UserError("--max_len counts tokens: name the tokenizer's model in --model")
    prompts = _prompts(options)
    with MathVerifier(fallback=options.fallback) as verifier:
        settings = Settings(
            columns=_columns(options),
            split=options.split,
            tokenizer=prompts.tokenizer,
            chat=prompts.chat,
            template=prompts.template,
            verifier=None if options.no_verify else verifier,
            max_len=options.max_len,
            budget=options.max_new_tokens,
            progress=sys.stderr.isatty(),
        )
        held_out = survey(options.eval, replace(settings, held_out=True)) if options.eval else None
        if options.no_answers:
            settings = replace(settings, columns=replace(settings.columns, answer=""), verifier=None)
        train = survey(options.file, settings, held_out)
    surveys = [train, held_out] if held_out else [train]
    unit = "characters" if prompts.tokenizer is None else "tokens"
    print(table(surveys, unit, options.max_len, options.max_new_tokens))
    for found in surveys:
        print("".join(f"{line}\n" for line in found.lines(options.show)), end="")
    print("\n".join(["", *train.examples]))
    errors = sum(found.errors for found in surveys)
    print(f"\n{errors} errors" if errors != 1 else "\n1 error")
    if errors:
        sys.exit(1)


def _import(options: argparse.Namespace) -> None:
    if options.format == gym.NAME:
        settings = gym.parsed(options.set)
        made = gym.import_rows(
            options.source, options.target, options.rows, options.seed, settings, options.shots, options.without
        )
    else:
        made = convert(
            options.format, options.source, options.target, options.skip_bad, sys.stderr.isatty(), options.split
        )
    for fault in made.faults.lines():
        print(f"skipped: {options.source}: {fault}")
    print(f"{options.target}: {made.text()}")


def _stats(options: argparse.Namespace) -> None:
    kinds = stats(options.file, options.target, _columns(options), options.split, _prompts(options))
    print(f"{options.target}: answers: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")


def _prompts(options: argparse.Namespace) -> Prompts:
    """How a run with these options makes its prompts."""
    check_template(options.input_template)
    tokenizer = _tokenizer(options.model, options.trust_remote_code)
    bare = options.no_chat_template or options.input_template is not None
    chat = tokenizer is not None and bool(tokenizer.chat_template) and not bare
    return Prompts(tokenizer, chat, options.input_template)


def _columns(options: argparse.Namespace) -> Columns:
    return Columns(options.input_key, options.label_key, options.demonstrations_key)


def _tokenizer(name: str | None, code: bool) -> Any:
    if name is None:
        return None
    hub.prepare_model(name)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=code)
    except (OSError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise hub.refusal(f"{name} has no tokenizer that can be loaded: {said}") from None
