"""The files of a made task: one .jsonl a part, and a manifest that vouches for them. Made once, found again."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "task.json"
Rows = list[dict[str, Any]]


def write_parts(directory: Path, manifest: Mapping[str, Any], make: Callable[[], dict[str, Rows]]) -> dict[str, Path]:
    """Writes `part`.jsonl for every part that `make` gives, and `task.json`, unless they are there already.

    Args:
        manifest: task, version and all parameters: the same manifest always means the same rows.
        make: part -> rows; called only where the files have to be written.

    Returns:
        part -> path, and the manifest's path under "manifest".
    """
    path = directory / MANIFEST
    if not _is_written(directory, manifest):
        directory.mkdir(parents=True, exist_ok=True)
        digests = {}
        for part, rows in make().items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            _write_atomically(directory / f"{part}.jsonl", text)
            digests[f"{part}.jsonl"] = hashlib.sha256(text.encode("ascii")).hexdigest()
        # Last, because it vouches for the others.
        _write_atomically(path, json.dumps({**manifest, "sha256": digests}, indent=2) + "\n")
    names = json.loads(path.read_text(encoding="ascii"))["sha256"]
    return {Path(name).stem: directory / name for name in names} | {"manifest": path}


def _write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="ascii")
    os.replace(temporary, path)


def _is_written(directory: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the directory holds this very task, files compared with the digests of its own manifest."""
    try:
        found = json.loads((directory / MANIFEST).read_text(encoding="ascii"))
        files = found.pop("sha256")
        intact = all(hashlib.sha256((directory / name).read_bytes()).hexdigest() == files[name] for name in files)
    except (OSError, ValueError, KeyError):
        return False
    return intact and found == dict(manifest)
