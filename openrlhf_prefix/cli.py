"""`openrlhf-prefix VERB ...`, also as `python -m openrlhf_prefix.cli VERB ...`.

Mistakes of the user end in one line and exit code 2; anything else is a fault of ours and shows its traceback.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence

from openrlhf_prefix.errors import PAUSED, RunPaused, RunStopped, UserError

# Of the pinned stack, about itself: nothing that a user of it could mend.
warnings.filterwarnings("ignore", message="Tip: In future versions of Ray", category=FutureWarning)
warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def train(argv: Sequence[str]) -> None:
    """train --config FILE [--any.flag value ...]: train, evaluate, export. --dry_run checks the flags and stops."""
    from openrlhf_prefix.report.run_folder import RunFolder
    from openrlhf_prefix.settings import config
    from openrlhf_prefix.settings.resolve import help_text, resolve

    if "--help" in argv or "-h" in argv:
        print(help_text())
        return
    resolved = resolve(argv)
    if not resolved.dry_run:
        from openrlhf_prefix.runtime.driver import launch

        launch.train(resolved)
        return
    folder = RunFolder(resolved.args.run.dir)
    folder.claim(resume=resolved.args.ckpt.load_enable)
    text = config.dump(resolved.flat)
    print(text, end="")
    place = "not saved: the folder holds a run" if folder.used() else f"saved in {folder.write_config(text)}"
    print(f"# dry run: the flags are valid, {place}")


def plan(argv: Sequence[str]) -> None:
    """plan --config FILE [--nodes N --gpus-per-node G --gpu-memory 80]: does it fit? Memory per GPU, steps, mends."""
    from openrlhf_prefix.plan.command import main as run

    run(argv)


def submit(argv: Sequence[str]) -> None:
    """submit --config FILE [--any.flag value ...]: train as a job of a Ray cluster, to its end."""
    from openrlhf_prefix.runtime.driver.submit import main as run

    run(argv)


def embed(argv: Sequence[str]) -> None:
    """embed DIRECTORY [--max_operations N ...]: make the embedded task and its tiny base model (cached)."""
    from openrlhf_prefix.data.embedded import main as run

    run(argv)


def evaluate(argv: Sequence[str]) -> None:
    """evaluate MODEL DATASET [--samples N] ...: accuracy of an HF folder, sampled by vLLM."""
    from openrlhf_prefix.runtime.evaluate import main as run

    run(argv)


def compare(argv: Sequence[str]) -> None:
    """compare --config FILE [--folder DIR] [--jobs N]: methods x seeds, tuned alike, in one table."""
    from openrlhf_prefix.compare.main import main as run

    run(argv)


def data(argv: Sequence[str]) -> None:
    """data check FILE | import FORMAT IN OUT | stats FILE OUT.png: problems checked, converted, drawn (--help)."""
    from openrlhf_prefix.data.commands import main as run

    run(argv)


def exactness(argv: Sequence[str]) -> None:
    """exactness [--upstream]: does every layout of an optimizer step move the parameters alike?"""
    from openrlhf_prefix.runtime.audit.exactness.measure import main as run

    run(argv)


def export(argv: Sequence[str]) -> None:
    """export CHECKPOINT OUT: make an HF folder of a resumable checkpoint or a run's newest one; needs no cluster."""
    from openrlhf_prefix.runtime.learner.export import main as run

    run(argv)


def doctor(argv: Sequence[str]) -> None:
    """doctor --config FILE [--any.flag value ...]: are the numbers of this machine with these flags right?"""
    from openrlhf_prefix.runtime.audit.doctor import main as run

    run(argv)


VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "plan": plan,
    "submit": submit,
    "evaluate": evaluate,
    "compare": compare,
    "embed": embed,
    "data": data,
    "export": export,
    "exactness": exactness,
    "doctor": doctor,
}


def usage() -> str:
    return "usage: openrlhf-prefix VERB ...\n\n" + "\n".join(f"  {verb.__doc__}" for verb in VERBS.values())


def main(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if not argv or argv[0] in ("-h", "--help"):
            print(usage())
        elif argv[0] not in VERBS:
            raise UserError(f"unknown verb {argv[0]!r}: choose one of {', '.join(VERBS)}")
        else:
            VERBS[argv[0]](argv[1:])
    except UserError as error:
        print(f"openrlhf-prefix: {error}", file=sys.stderr)
        sys.exit(2)
    except RunStopped as stopped:
        # Ray wraps what was raised in an actor, and puts its traceback into the message.
        reason = getattr(stopped, "cause", stopped)
        print(f"openrlhf-prefix: stopped: {reason.args[0]}", file=sys.stderr)
        sys.exit(PAUSED if isinstance(stopped, RunPaused) else 1)


if __name__ == "__main__":
    main()
