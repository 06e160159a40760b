"""Methods from outside the package: a Python file that adds rows to PRESETS, IMITATION or CONTROLLERS.

    # my_method.py
    from openrlhf_prefix.algorithm.imitation import IMITATION
    from openrlhf_prefix.algorithm.presets import PRESETS, Preset

    IMITATION["focal"] = lambda tokens: -(1 - tokens.log_probs.detach().exp()) * tokens.log_probs
    PRESETS["focal"] = Preset(source="an example", demonstration="whole", imitation="focal", imitation_mean="tokens")

`--hybrid.plugin my_method.py --hybrid.preset focal` runs it: the file is executed once in the driver, before the flags
are checked, once in the controller and once in every trainer, so it has to be readable on every node.
"""

import runpy
from collections.abc import Mapping
from pathlib import Path

from openrlhf_prefix.errors import UserError

_loaded: set[str] = set()


def load(path: str | None) -> None:
    """Executes a plugin, once in a process; None does nothing. UserError where it is not there or fails."""
    if path is None or path in _loaded:
        return
    if not Path(path).is_file():
        raise UserError(f"hybrid.plugin: there is no file {path!r} here ({Path.cwd()}); check the path")
    try:
        runpy.run_path(path)
    except Exception as error:
        raise UserError(f"hybrid.plugin {path} fails: {type(error).__name__}: {error}") from error
    _loaded.add(path)


def named_in(settings: Mapping[str, object]) -> str | None:
    """The plugin's absolute path in flags that are not parsed yet: workers run in other folders."""
    path = settings.get("hybrid.plugin")
    return str(Path(str(path)).expanduser().absolute()) if path else None
