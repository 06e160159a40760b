"""The manifest of a checkpoint: size and SHA-256 of every file, the facts of the run, and a checksum of itself.

It is written after everything else has reached the disk. A folder without it, with a byte changed in any file
(itself included), or with a file too many or too few, is no checkpoint.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

NAME = "manifest.json"
FORMAT = 1
THREADS = 8  # hashing leaves Python's lock, reading waits for the disk


class Damaged(ValueError):
    """A folder that is no complete checkpoint; the sentence names the file and what is wrong with it."""


def files_of(folder: Path) -> list[str]:
    """Names of all files below `folder` but the manifest, relative to it and sorted."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != NAME)


def seal(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Brings the named files to the disk; returns {name: {"size": bytes, "sha256": hex digest}}."""
    return {name: _seal(folder / name) for name in names}


def _seal(path: Path) -> dict[str, Any]:
    sync(path)
    return {"size": path.stat().st_size, "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """fsync of a file, or of a folder (its list of names)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(folder: Path, files: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """Writes the manifest and brings it and every folder to the disk.

    Args:
        files: what seal() returned, of all files below `folder`.
        facts: JSON values; what a resume compares and a person reads.
    """
    path = folder / NAME
    path.write_bytes(_render({"format": FORMAT, "facts": facts, "files": files}))
    sync(path)
    for inner in sorted(entry for entry in folder.rglob("*") if entry.is_dir()):
        sync(inner)
    sync(folder)


def _render(content: Mapping[str, Any]) -> bytes:
    """Canonical text with the checksum of the content in its last line."""
    text = json.dumps(content, indent=1, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text}\nsha256 {digest}\n".encode()


def read(folder: Path) -> dict[str, Any]:
    """The facts and files of a manifest, which is whole. Raises Damaged."""
    try:
        raw = (folder / NAME).read_bytes()
    except FileNotFoundError:
        raise Damaged(f"it has no {NAME}: the save was not finished") from None
    except OSError as error:
        raise Damaged(f"{NAME} cannot be read: {error}") from None
    text = raw[: raw.rfind(b"\nsha256 ")]
    try:
        content = json.loads(text)
        whole = raw == _render(content)
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise Damaged(f"{NAME} does not have the checksum it ends with")
    if content["format"] != FORMAT:
        raise Damaged(f"{NAME} has format {content['format']}, this version reads {FORMAT}")
    return content


def verify(folder: Path) -> dict[str, Any]:
    """The facts of a complete checkpoint; every file was read and compared.

    Raises:
        Damaged: names the first file that is missing, too many, or not what was written.
    """
    content = read(folder)
    files, found = content["files"], set(files_of(folder))
    for name in sorted(set(files) | found):
        if name not in found:
            raise Damaged(f"{name} is missing")
        if name not in files:
            raise Damaged(f"{name} does not belong to it")
        size = (folder / name).stat().st_size
        if size != files[name]["size"]:
            raise Damaged(f"{name} has {size} bytes, {files[name]['size']} were written")
    with ThreadPoolExecutor(THREADS) as pool:
        digests = pool.map(_digest_or_error, [folder / name for name in files])
        for (name, entry), digest in zip(files.items(), digests, strict=True):
            if isinstance(digest, OSError):
                raise Damaged(f"{name} cannot be read: {digest}")
            if digest != entry["sha256"]:
                raise Damaged(f"{name} does not hold what was written: its checksum differs")
    return content["facts"]


def _digest_or_error(path: Path) -> str | OSError:
    try:
        return _digest(path)
    except OSError as error:
        return error
