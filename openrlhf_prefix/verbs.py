"""The verbs of the command line, with the module that runs each and its parser; a module is imported for its use."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_prefix.arguments import PROGRAM, Parser, parser_of


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    module: str  # below the package; it has parser() -> Parser and main(argv)
    summary: str
    flags: bool = False  # the flags of `train` come beside its own options

    def load(self) -> Any:
        return importlib.import_module(f"openrlhf_prefix.{self.module}")

    def parser(self) -> Parser:
        """All that it takes."""
        own: Parser = self.load().parser()
        if not self.flags:
            return own
        from openrlhf_prefix.settings.resolve import build_parser

        return Parser(prog=own.prog, parents=[own, build_parser()], conflict_handler="resolve", add_help=False)


VERBS = {
    "train": Verb("runtime.driver.train", "train, evaluate, export; --dry_run checks and stops", flags=True),
    "plan": Verb("plan.command", "does it fit? memory per GPU, steps, mends", flags=True),
    "submit": Verb("runtime.driver.submit", "train as a job of a Ray cluster, to its end", flags=True),
    "evaluate": Verb("runtime.evaluate.command", "avg@n and pass@k of an HF folder, and what changed since another"),
    "report": Verb("report.command", "curves and coloured samples of runs in one HTML file; --serve: live"),
    "compare": Verb("comparison.main", "methods x seeds, tuned alike, in one table"),
    "embed": Verb("data.embedded", "make the embedded task and its tiny base model (cached)"),
    "data": Verb(
        "runtime.evaluate.data_command", "problems checked, converted, drawn; by a policy: filtered, demonstrated"
    ),
    "export": Verb("runtime.learner.export_command", "an HF folder of a checkpoint, or a run's newest"),
    "exactness": Verb("runtime.audit.exactness.measure", "does every layout of a step move the parameters alike?"),
    "doctor": Verb("runtime.audit.doctor", "are the numbers of this machine right?", flags=True),
    "flags": Verb("settings.flag_docs", "all flags as a page, docs/flags.md"),
    "schema": Verb("settings.schema", "JSON schema of the YAML files, for editors"),
    "completion": Verb("verbs", "completion of all this, for a shell to read"),
}


FILES = (
    f"What a shell reads to complete verbs and flags: {PROGRAM} completion bash "
    f"> ~/.local/share/bash-completion/completions/{PROGRAM}, or zsh into _{PROGRAM} in a folder of $fpath."
)


def parser() -> Parser:
    """Of `completion`."""
    import shtab

    parser = parser_of("completion", FILES)
    parser.add_argument(
        "shell", metavar="SHELL", choices=shtab.SUPPORTED_SHELLS, help=", ".join(shtab.SUPPORTED_SHELLS)
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Of `completion`: prints the script."""
    import shtab

    shell = parser().parse_args(argv).shell
    whole = Parser(prog=PROGRAM)
    verbs = whole.add_subparsers()
    for name, verb in VERBS.items():
        verbs.add_parser(name, help=verb.summary, parents=[verb.parser()], add_help=False)
    print(shtab.complete(whole, shell))
