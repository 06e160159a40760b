"""What an examination found, and how it ends a run that was started for it alone."""

from dataclasses import dataclass

OK, WRONG, SKIPPED = "ok", "WRONG", "not checked"
LOG_PROB_TOLERANCE = 0.02  # mean absolute difference of engine and actor on sampled tokens, in bf16


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
