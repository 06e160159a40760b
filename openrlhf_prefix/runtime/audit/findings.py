"""What an examination found, and how it ends a run that was started for it alone."""

from dataclasses import dataclass

OK, WRONG, SKIPPED = "ok", "WRONG", "not checked"
# Mean absolute difference of engine and actor on sampled tokens. Each of the two rounds in its own order, so that
# healthy ones differ by about 1.4 times the actor's own distance from fp32; another position or mask by nats.
ROUNDINGS = 3.0  # of the actor's, that the difference may be
LEAST_TOLERANCE = 0.002  # where the actor hardly rounds


@dataclass(frozen=True)
class Finding:
    check: str
    status: str  # OK, WRONG or SKIPPED
    detail: str
    mend: str = ""  # what to do, where something is wrong


class Examined(Exception):
    """Ends OpenRLHF's train() after the examination, before it would export a model."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(findings)
        self.findings = findings
