"""The `submit` verb: a training as a job of a running Ray cluster; its log is followed, its exit code returned.

    openrlhf-prefix submit --config FILE [--any.flag value ...]        against RAY_API_SERVER_ADDRESS

What `train --dry_run` checks is checked here, before anything is sent. What travels is the package and the checked
flags, with absolute paths, in one config file: no data, no checkpoint, no run folder. Every file that the flags name
is found on a shared file system, which the run checks on each node.
"""

import asyncio
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openrlhf_prefix
from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.errors import INTERRUPTED, Unreachable, UserError
from openrlhf_prefix.settings import config
from openrlhf_prefix.settings.resolve import resolve

ADDRESS, PASSED, PYTHON, STOP = "RAY_API_SERVER_ADDRESS", "PASS_ENV", "JOB_PYTHON", "STOP_SECONDS"
PREFIXES = ("NCCL_", "GLOO_", "HF_", "VLLM_", "OPENRLHF_PREFIX_")
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
HEAD_SECONDS = 10.0  # until something answers at the address at all
AGENT_SECONDS = 120  # a head answers before its agent takes jobs
LOST_SECONDS = 300  # without a word from the cluster


def parser() -> Parser:
    """It has no options of its own, beside the flags of `train`."""
    text = "A training as a job of a Ray cluster: its log is followed, its exit code returned. Environment: "
    return parser_of(
        "submit",
        f"{text}{ADDRESS}, the dashboard's http://HEAD:8265; {PASSED}, names of variables to pass on; {PYTHON}, the "
        f"cluster's Python; {STOP}, seconds that a stopped job has to save (120).",
    )


def main(argv: Sequence[str]) -> None:
    """Submits, follows, and exits with the job's code; --dry_run sends nothing."""
    resolved = resolve(argv)
    if resolved.flat["logger.wandb.key"] not in (None, "", config.FROM_ENVIRONMENT):
        raise UserError("a W&B key in a job's flags can be read by others: give --logger.wandb.key env")
    if not resolved.dry_run:
        if ADDRESS not in os.environ:
            raise UserError(f"{ADDRESS} is not set: give the address of the cluster's dashboard, http://HEAD:8265")
        check_head(os.environ[ADDRESS])
    from openrlhf_prefix.runtime.driver import launch

    try:
        launch.check(resolved)
    except Unreachable as error:
        print(f"# not checked here: {error}", flush=True)
    if resolved.dry_run:
        print(f"{config.dump(resolved.flat)}# dry run: nothing was sent; {launch.UNCHECKED}")
        return
    with tempfile.TemporaryDirectory() as folder:
        pack(Path(folder), config.dump(resolved.flat))
        client, job = submit(os.environ[ADDRESS], Path(folder), passed_on(os.environ))
    print(f"job {job}: {resolved.args.run.dir}", flush=True)
    stop_on_signals(client, job)
    asyncio.run(follow(client, job))
    sys.exit(exit_code(client.get_job_info(job)))


def stop_on_signals(client: Any, job: str) -> None:
    """SIGTERM and Ctrl-C send the job a SIGTERM, and it has STOP_SECONDS to save; a second Ctrl-C waits no longer."""

    def stop(number: int, frame: Any) -> None:
        if number == signal.SIGINT:
            signal.signal(number, lambda *_: os._exit(INTERRUPTED))
        client.stop_job(job)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def pack(folder: Path, flags: str) -> None:
    """Fills the job's working directory: this package and config.yaml."""
    source = Path(openrlhf_prefix.__file__).parent
    shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "config.yaml").write_text(flags, encoding="utf-8")


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables of the job, by name. Secrets only where PASS_ENV names them: Ray shows a job's variables.

    Example: {"NCCL_DEBUG": "INFO", "HF_HOME": "/shared", "HF_TOKEN": "x"} passes the first two on.
    """
    named = environment.get(PASSED, "").split()
    if missing := [name for name in named if name not in environment]:
        raise UserError(f"{PASSED} names {', '.join(missing)}, not set here: export it, or leave it out")
    usual = [
        name for name in environment if name.startswith(PREFIXES) and not any(word in name for word in SECRET_WORDS)
    ]
    return {name: environment[name] for name in (*usual, *named)}


def check_head(address: str) -> None:
    """A dashboard answers at `address`, be it by an error. Raises UserError within HEAD_SECONDS."""
    url = address if "://" in address else f"http://{address}"
    if not url.startswith("http"):  # ray://, which Ray itself resolves
        return
    deadline, reason = time.monotonic() + HEAD_SECONDS, "no answer"
    while (left := deadline - time.monotonic()) > 0:
        said: list[str] = []
        # In a thread: looking a name up has no time-out.
        thread = threading.Thread(
            target=lambda url=url, left=left, said=said: said.append(_ask(url, left)), daemon=True
        )
        thread.start()
        thread.join(left)
        reason = said[0] if said else "no answer"
        if not reason:
            return
        time.sleep(min(1.0, max(deadline - time.monotonic(), 0.0)))
    raise UserError(
        f"no cluster answers at {address} within {HEAD_SECONDS:g} s ({reason}): give {ADDRESS} the address of the "
        "cluster's dashboard, http://HEAD:8265"
    )


def _ask(url: str, seconds: float) -> str:
    """What keeps `url` from answering; empty where it does."""
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/api/version", timeout=seconds).close()
    except urllib.error.HTTPError as error:
        return "what answers is no dashboard of Ray's: 404" if error.code == 404 else ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""


def submit(address: str, folder: Path, variables: Mapping[str, str]) -> tuple[Any, str]:
    """The client and the id of the job. UserError where no cluster takes it."""
    from ray.job_submission import JobSubmissionClient

    python = os.environ.get(PYTHON, sys.executable)
    entrypoint = [python, "-W", "ignore", "-m", "openrlhf_prefix.cli", "train", "--config", "config.yaml"]
    runtime_env = {
        "working_dir": str(folder),
        # The run adds variables for its workers, some by the same names: let it.
        "env_vars": {
            **variables,
            "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": os.environ.get(STOP, "120"),
        },
    }
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            client = JobSubmissionClient(address)
            return client, client.submit_job(entrypoint=shlex.join(entrypoint), runtime_env=runtime_env)
        except (ConnectionError, RuntimeError) as error:
            if time.monotonic() >= deadline:
                reason = str(error).strip().splitlines()[-1]
                raise UserError(
                    f"{address} took no job within {AGENT_SECONDS} s ({reason}): check {ADDRESS}"
                ) from None
            time.sleep(3)


async def follow(client: Any, job: str) -> None:
    """Shows the job's log until it ends. A lost connection is taken up again, without repeating what was shown.

    Raises:
        UserError: the cluster gave no sign for LOST_SECONDS.
    """
    import aiohttp  # the job client's own, of ray[default]

    shown, heard = 0, time.monotonic()
    while True:
        position = 0
        try:
            async for text in client.tail_job_logs(job):
                print(text[max(shown - position, 0) :], end="", flush=True)
                position += len(text)
                shown, heard = max(shown, position), time.monotonic()
            if client.get_job_status(job).is_terminal():
                return
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            if time.monotonic() - heard > LOST_SECONDS:
                raise UserError(f"job {job}: no word from the cluster for {LOST_SECONDS} s ({error})") from None
        await asyncio.sleep(2)


def exit_code(info: Any) -> int:
    """Of the job: 0, the driver's own, or 1 where it did not live to give one (or was stopped)."""
    if info.status == "SUCCEEDED":
        return 0
    reason = (info.message or "").partition(", last available logs")[0]  # which were shown
    print(f"job {info.submission_id} {info.status}: {reason}", file=sys.stderr)
    return info.driver_exit_code or 1
