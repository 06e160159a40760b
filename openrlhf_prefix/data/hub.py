"""Whether the hub answers, asked once and for two seconds, before a library asks it for half a minute.

Where it does not, huggingface's libraries are told to stay offline, in this process and in those that it starts: what
is in the cache loads at once, and what is not is refused at once instead of after five tries with growing pauses.
"""

import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

from openrlhf_prefix.errors import Unreachable, UserError

SECONDS = 2.0
OFFLINE = "HF_HUB_OFFLINE"
OTHER_CACHE = "TRANSFORMERS_CACHE"  # of older versions; what is there is left to transformers


def prepare(name: str) -> None:
    """To be called before `name`, a folder or a hub name, is loaded. Says on stderr when the hub does not answer."""
    if Path(name).expanduser().exists() or _offline():
        return
    from huggingface_hub import constants

    if _answers(constants.ENDPOINT):
        return
    print(f"note: {constants.ENDPOINT} does not answer: only what is in the cache is found", file=sys.stderr)
    os.environ[OFFLINE] = "1"
    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:  # which reads the variable when it is imported
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def prepare_model(name: str) -> None:
    """prepare() for a model, before transformers is imported, which takes seconds itself.

    Raises:
        Unreachable: the hub does not answer, and nothing of the model is in the cache.
    """
    prepare(name)
    if Path(name).expanduser().exists() or not _offline() or os.environ.get(OTHER_CACHE):
        return
    from huggingface_hub import constants

    if not Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}").exists():
        raise refusal(f"{name} is not a folder here, and not in the cache ({constants.HF_HUB_CACHE})")


def refusal(sentence: str) -> UserError:
    """The error for a hub name that cannot be loaded; Unreachable, with the mend, while the hub does not answer."""
    if _offline():
        return Unreachable(f"{sentence} (offline: download it on a machine with a network, or give a local path)")
    return UserError(sentence)


def _offline() -> bool:
    from huggingface_hub import constants

    return constants.is_offline_mode()


@cache
def _answers(url: str) -> bool:
    """Whether any reply comes from `url`, an error page included. In a thread: looking a name up has no time-out."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(_ask(url)), daemon=True)
    thread.start()
    thread.join(SECONDS + 0.5)
    return bool(found) and found[0]


def _ask(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # it answered; certificates are the libraries' own matter
    except OSError:
        return False
    return True
