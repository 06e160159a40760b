"""What nobody may read in a run folder, a log or Ray's dashboard: a W&B key, and tokens in the URLs of reward servers.

    --reward.remote_url 'https://judge/score?key=$JUDGE_KEY'      flag, config and checkpoints say $JUDGE_KEY

A secret is taken out of the environment by the driver and handed to the controller alone, as an argument; the
controller hands those of URLs to the engines. It is in no variable of Ray's, which its dashboard shows and every
worker inherits.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.config import FROM_ENVIRONMENT

WANDB_KEY = "WANDB_API_KEY"
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_URL = re.compile(r"(\b[a-zA-Z][\w+.-]*://)(?:[^\s/@'\"<>]*@)?([^\s?#'\"<>()]*)(\?[^\s'\"<>()]*)?")
# Parts of a query's names whose value is a secret.
_WORDS = re.compile(r"key|token|secret|passw|auth|sig", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Every URL in a text without user, password and the values of its query.

    Example: "401 for https://me:x@judge/score?key=y" becomes "401 for https://judge/score?...".
    """
    return _URL.sub(lambda url: f"{url[1]}{url[2]}{'?...' if url[3] else ''}", text)


def named(urls: Sequence[str]) -> list[str]:
    """Names of the variables in URLs, each once."""
    return list(dict.fromkeys(braced or bare for url in urls for braced, bare in _VARIABLE.findall(url)))


def filled(urls: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The URLs with the values of their variables."""
    return [_VARIABLE.sub(lambda found: values[found[1] or found[2]], url) for url in urls]


def spelt_out(url: str) -> str | None:
    """What of a URL is a secret in plain sight; None where there is none, or a variable stands for it."""
    found = re.match(r"\w+://([^/?#]*)@", url)
    if found and not _VARIABLE.search(found[1]):
        return "a user or password"
    for name, value in re.findall(r"[?&]([^=&#]*)=([^&#]*)", url):
        if _WORDS.search(name) and value and not _VARIABLE.search(value):
            return f"the value of {name}"
    return None


def refuse_spelt_out(urls: Sequence[str]) -> None:
    """Raises UserError, which does not repeat it, for a secret in the URL of a reward server."""
    if what := next(filter(None, map(spelt_out, urls)), None):
        raise UserError(
            f"reward.remote_url holds {what}, which logs, checkpoints and Ray's dashboard would show: export it, and "
            "write a variable in its place, as in 'https://judge/score?key=$JUDGE_KEY' (in single quotes)"
        )


def off_the_command_line(args: SimpleNamespace) -> None:
    """Starts this process anew where a W&B key stands on its command line, which others see in a list of processes and
    on Ray's dashboard: the flag then says `env`. One out of a file goes into the environment without that."""
    key = args.logger.wandb.key
    if not key or key == FROM_ENVIRONMENT:
        return
    os.environ[WANDB_KEY], args.logger.wandb.key = key, FROM_ENVIRONMENT
    shown = [word.replace(key, FROM_ENVIRONMENT) if word.endswith(key) else word for word in sys.orig_argv[1:]]
    if shown != sys.orig_argv[1:]:
        print(
            f"warning: others could read a key on the command line: export {WANDB_KEY}, and give "
            f"--logger.wandb.key {FROM_ENVIRONMENT}",
            flush=True,
        )
        os.execv(sys.executable, [sys.executable, *shown])


def of_servers(args: SimpleNamespace) -> dict[str, str]:
    """The variables that URLs of reward servers name, with their values. UserError where one is not set."""
    names = named(args.reward.remote_url or [])
    if missing := [name for name in names if name not in os.environ]:
        raise UserError(f"reward.remote_url names {', '.join(missing)}, not set here: export it")
    return {name: os.environ[name] for name in names}


def take(args: SimpleNamespace) -> dict[str, str]:
    """These and W&B's key, by variable; the latter is gone from this process's environment afterwards."""
    values = of_servers(args)
    key = os.environ.pop(WANDB_KEY, None)  # Ray's processes inherit what is left, whether a tracker runs or not
    return values | ({WANDB_KEY: key} if key and args.logger.wandb.key else {})


def for_servers(values: Mapping[str, str]) -> dict[str, str]:
    """Without W&B's key, which is not for the engines."""
    return {name: value for name, value in values.items() if name != WANDB_KEY}


@contextmanager
def wandb_key(values: Mapping[str, str]) -> Iterator[None]:
    """While the block runs this process's environment holds the key, where W&B looks for it."""
    if WANDB_KEY not in values:
        yield
        return
    os.environ[WANDB_KEY] = values[WANDB_KEY]
    try:
        yield
    finally:
        del os.environ[WANDB_KEY]
