"""The exceptions that end in one line: the command line prints it and exits."""


class UserError(ValueError):
    """Exit code 2: one sentence that names the cause and the mend, raised before anything expensive starts."""


class Unreachable(UserError):
    """The same for what only the hub has, while it does not answer here: another machine may well find it."""


class RunStopped(RuntimeError):
    """Exit code 1 and those of the classes below: a running training stops on purpose, and the sentence says why."""

    code = 1


PAUSED = 75  # sysexits.h calls it EX_TEMPFAIL: nothing is wrong, try again later
INTERRUPTED = 130  # of a shell for SIGINT


class RunPaused(RunStopped):
    """Exit code 75: the run was told to stop, by SIGTERM or its time limit, and saved first; the same command with
    --ckpt.load_enable goes on."""

    code = PAUSED


class RunInterrupted(RunPaused):
    """Exit code 130: the same by Ctrl-C."""

    code = INTERRUPTED


class EngineLost(RunStopped):
    """Exit code 1, after a checkpoint of the last finished step: engines die faster than they are replaced."""
