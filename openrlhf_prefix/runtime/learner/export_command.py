"""The `export` verb: from the command line to export(), which is imported once it is needed."""

import os
from collections.abc import Sequence
from pathlib import Path

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.learner import push


def parser() -> Parser:
    parser = parser_of("export", "An HF folder of a checkpoint, without a cluster: for transformers and vLLM.")
    parser.add_argument("source", metavar="CHECKPOINT", help="a checkpoint, or a run folder: its newest complete one")
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.add_argument("--adapter", action="store_true", help="what LoRA trained, by itself; else it is merged")
    parser.add_argument(
        "--push_to", metavar="REPO", help="to the hub as well, with the token in HF_TOKEN; a new repository is private"
    )
    parser.add_argument("--trust_remote_code", action="store_true", help="run the Python code that the model brings")
    return parser


def main(argv: Sequence[str]) -> None:
    """Exports, and says from which checkpoint. Raises UserError."""
    options = parser().parse_args(argv)
    source, out = (Path(name).expanduser().absolute() for name in (options.source, options.out))
    if not source.is_dir():
        raise UserError(
            f"there is no folder {options.source!r} here ({Path.cwd()}): give a checkpoint or a run folder"
        )
    if options.push_to:
        push.check(options.push_to)
    os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed would look for one, and say so
    from transformers.utils.logging import disable_progress_bar

    from openrlhf_prefix.runtime.learner.export import export

    disable_progress_bar()
    print(f"exported {export(source, out, options.adapter, options.trust_remote_code)} to {out}", flush=True)
    if options.push_to:
        print(f"pushed: {push.push(out, options.push_to)}")
