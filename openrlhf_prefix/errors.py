"""The exceptions that end in one line: the command line prints it and exits."""


class UserError(ValueError):
    """Exit code 2: one sentence that names the cause and the mend, raised before anything expensive starts."""


class RunStopped(RuntimeError):
    """Exit code 1: a running training stops on purpose, and the sentence says why."""
