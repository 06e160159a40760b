"""The process in which a user's reward file runs: one JSON request per line in, one JSON reply per line out.

    {"query": .., "prompt": .., "label": .., "response": ..}  ->  {"value": what reward_func returned}
                                                              or  {"error": "ZeroDivisionError: ...\\n traceback"}

A function that hangs cannot be stopped inside the process that called it; this one is killed and replaced (pool.py).
`reward_func(queries, prompts, labels)` gets lists of one, as in OpenRLHF; one that has a parameter `responses` (or
**kwargs) also gets the response alone, without its prompt.
"""

import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openrlhf_prefix.reward.worker import private_stdout

TRACEBACK_LINES = 12


def load_function(path: Path) -> Callable[..., Any]:
    """reward_func of a Python file: whatever of that name can be called. It may import what lies beside it."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("user_reward", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look there
    spec.loader.exec_module(module)
    function = getattr(module, "reward_func", None)
    if not callable(function):
        raise SystemExit(f"{path} has no reward_func(queries, prompts, labels) that can be called")
    return function


def takes_responses(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some callables of C have none
        return False
    return any(one.name == "responses" or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def reply_to(request: dict[str, str], function: Callable[..., Any], with_response: bool) -> dict[str, Any]:
    extra = {"responses": [request["response"]]} if with_response else {}
    try:
        return {"value": plain(function([request["query"]], [request["prompt"]], [request["label"]], **extra))}
    except Exception as error:  # whatever the user's code raises is the reply; the parent counts it and shows it
        tail = "".join(traceback.format_exc().splitlines(keepends=True)[-TRACEBACK_LINES:])
        return {"error": f"{type(error).__name__}: {error}\n{tail}"}


def plain(value: Any) -> Any:
    """Tensors, arrays and tuples as lists; what JSON cannot hold becomes its repr, which no check accepts."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def main() -> None:
    """Serve until stdin closes, which it does when the parent is gone."""
    channel = private_stdout()
    function = load_function(Path(sys.argv[1]))
    with_response = takes_responses(function)
    channel.write(b'{"ready": true}\n')
    channel.flush()
    for line in sys.stdin.buffer:
        reply = reply_to(json.loads(line), function, with_response)
        channel.write(json.dumps(reply).encode() + b"\n")
        channel.flush()


if __name__ == "__main__":
    main()
