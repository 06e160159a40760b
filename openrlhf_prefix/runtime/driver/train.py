"""The `train` verb: the flags are checked here; what they start is imported once they are right."""

from collections.abc import Sequence

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.settings import config, secrets
from openrlhf_prefix.settings.resolve import resolve


def parser() -> Parser:
    """It has no options of its own: they are the flags."""
    return parser_of("train", "Train, evaluate and export, alone or against the cluster at RAY_ADDRESS.")


def main(argv: Sequence[str]) -> str:
    """A run, in the folder that is returned; with --dry_run what it would refuse, and its flags, shown and saved."""
    resolved = resolve(argv)
    if not resolved.dry_run:
        secrets.off_the_command_line(resolved.args)
    for note in resolved.notes:
        print(f"# {note}", flush=True)
    from openrlhf_prefix.runtime.driver import launch, this_machine

    if not resolved.dry_run:
        launch.train(resolved)
        return resolved.args.run.dir
    secrets.of_servers(resolved.args)
    launch.check(resolved)
    for line in this_machine.look(resolved.args):
        print(line, flush=True)
    folder = RunFolder(resolved.args.run.dir)
    folder.claim(resume=resolved.args.ckpt.load_enable)
    text = config.dump(resolved.flat)
    print(text, end="")
    place = "not saved: the folder holds a run" if folder.used() else f"saved in {folder.write_config(text)}"
    print(f"# dry run: train would start; {place}; {launch.UNCHECKED}")
    return resolved.args.run.dir
