"""The `doctor` verb: is this machine, with these flags, training on the right numbers?

    openrlhf-prefix doctor --config my.yaml --any.flag value        the flags of `train`

Starts the same actors and engines as a training run, with the user's placement, model and data, and looks at what runs
rather than at what was asked for. Nothing is trained and nothing is written but the run folder's logs.
"""

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from openrlhf_prefix import pins
from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.audit.findings import OK, WRONG, Examined, Finding
from openrlhf_prefix.runtime.context import RunContext
from openrlhf_prefix.settings import secrets

BOMB = r"\boxed{\sum_{k=1}^{10^9} k^k}"  # within every limit on what is read, and for hours in what it is worth


def parser() -> Parser:
    """It has no options of its own, beside the flags of `train`."""
    return parser_of("doctor", "Are the numbers of this machine right, with these flags? Trains nothing.")


def main(argv: Sequence[str]) -> None:
    """Prints the table; SystemExit(1) if anything is wrong."""
    from openrlhf_prefix.settings.resolve import resolve

    started = time.time()
    # Here rather than in /tmp: on a cluster every node has to see it.
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=".") as folder, ThreadPoolExecutor() as beside:
        resolved = resolve([*argv, "--run.dir", folder])
        if resolved.dry_run:
            raise UserError("doctor starts the stack: leave --dry_run out; train --dry_run checks the flags alone")
        verified = beside.submit(verifier)
        findings = [versions(), *examine(resolved.args), verified.result()]
    print(report(findings))
    print(f"{time.time() - started:.0f} s")
    if any(finding.status == WRONG for finding in findings):
        raise SystemExit(1)


def versions() -> Finding:
    """Installed packages against the pins."""
    packages = pins.installed()
    if different := [str(package) for package in packages if not package.as_pinned]:
        return Finding("versions", WRONG, ", ".join(different), "bash scripts/setup.sh installs the pinned ones")
    return Finding("versions", OK, ", ".join(map(str, packages)))


def verifier() -> Finding:
    """math-verify answers, and an answer that would hang it is stopped."""
    from openrlhf_prefix.reward import MathVerifier

    with MathVerifier(workers=1, timeout=5.0) as verify:
        scores = verify.score([r"\boxed{2\sqrt{2}}", r"\boxed{x+1}", BOMB], [r"\sqrt{8}", "x", "7"])
    values, reasons = [score.value for score in scores], [score.reason for score in scores]
    detail = f"2 sqrt(2) = sqrt(8): {reasons[0]}; x+1 = x: {reasons[1]}; 10^9 terms: {reasons[2]}"
    if values == [1.0, 0.0, 0.0]:
        return Finding("math-verify", OK, detail)
    return Finding("math-verify", WRONG, detail, "bash scripts/setup.sh installs the pinned math-verify")


def examine(args: SimpleNamespace) -> list[Finding]:
    """Starts the stack with the user's flags, on as few rows as they allow, and lets the controller look."""
    from openrlhf_prefix.runtime.driver import launch, wiring
    from openrlhf_prefix.settings.derived import data_parallel_ranks

    ranks, size = data_parallel_ranks(args), args.rollout.n_samples_per_prompt
    args.train.batch_size = 2 * ranks * args.train.micro_batch_size
    args.rollout.batch_size = -(-max(args.train.batch_size, 32) // size)
    # The engines report their log-probs only for a correction.
    args.algo.advantage.is_correction_level = "token"
    args.ckpt.load_enable = args.run.eval_at_start = False
    args.run.report_seconds = 0.0
    hidden = secrets.take(args)
    args.logger.wandb.key = None  # an examination is no run to be tracked
    with launch.cluster(args, launch.read_problems(args), RunContext(time.time())) as board:
        from openrlhf_prefix.runtime.audit.doctor_controller import DoctorTrainer  # imports OpenRLHF, once Ray is up

        try:
            wiring.wire(DoctorTrainer, board, hidden)(args)
        except Examined as done:
            return done.findings
    raise RuntimeError("the controller ended without an examination")


def report(findings: list[Finding]) -> str:
    """A table, and what to do below it."""
    lines = [f"{'check':<24}{'':<13}found"]
    lines += [f"{finding.check:<24}{finding.status:<13}{finding.detail}" for finding in findings]
    lines += [f"\n{finding.check}: {finding.mend}" for finding in findings if finding.status == WRONG]
    return "\n".join(lines)
