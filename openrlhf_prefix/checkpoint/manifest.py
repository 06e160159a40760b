"""The manifest of a checkpoint: size and SHA-256 of every file, the facts of the run, and a checksum of itself.

It is written after everything else has reached the disk. A folder without it, with a byte changed in any file
(itself included), or with a file too many or too few, is no checkpoint. A file system that does not answer says
nothing about a checkpoint: that is an error of its own (Unreadable), and nobody goes on without the answer.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openrlhf_prefix.errors import UserError

NAME = "manifest.json"
FORMAT = 1
THREADS = 8  # hashing leaves Python's lock, reading waits for the disk
UNLINKED = ".nfs"  # how NFS calls a deleted file that somebody still has open; it goes by itself


class Damaged(ValueError):
    """A folder that is no complete checkpoint; the sentence names the file and what is wrong with it."""


class Unreadable(UserError):
    """The file system did not answer; whether a checkpoint is whole is not known."""


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """An OSError of the block becomes an Unreadable: EIO, ESTALE and EACCES may be gone the next time."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise Unreadable(
            f"{place} cannot be read ({error.strerror or error}): that is the file system, not damage, so no "
            "checkpoint was passed over and nothing was changed. Look at disk, mount and permissions, then give "
            f"the same command again; to go on without {folder.name}, move it elsewhere"
        ) from None


def files_of(folder: Path) -> list[str]:
    """Names of all files below `folder` but the manifest, relative to it and sorted. OSError where it is not known."""

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for top, _, names in os.walk(folder, onerror=refuse):
        found += [(Path(top) / name).relative_to(folder).as_posix() for name in names if not name.startswith(UNLINKED)]
    return sorted(name for name in found if name != NAME)


def seal(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Brings the named files to the disk; returns {name: {"size": bytes, "sha256": hex digest}}."""
    return {name: _seal(folder / name) for name in names}


def _seal(path: Path) -> dict[str, Any]:
    sync(path)
    return _measure(path)


def _measure(path: Path) -> dict[str, Any]:
    """Size and digest by one open file: a shared file system may remember an older size under the name."""
    with path.open("rb") as file:
        return {"size": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def difference(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """What was sealed and is not in the folder (or with another size), and what is there and was not sealed."""
    missing = [name for name, entry in files.items() if _size(folder / name) != entry["size"]]
    return sorted(missing), [name for name in files_of(folder) if name not in files]


def _size(path: Path) -> int | None:
    """None where there is no such file. By its name, not by the folder's list of names, which may be an old one."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


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
    """The facts and files of a manifest, which is whole. Raises Damaged and Unreadable."""
    with reading(folder):
        try:
            raw = (folder / NAME).read_bytes()
        except FileNotFoundError:
            raise Damaged(f"it has no {NAME}: the save was not finished") from None
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
        Unreadable: a file could not be read, so that nothing is known.
    """
    content = read(folder)
    files = content["files"]
    with reading(folder):
        missing, foreign = difference(folder, files)
        for name in sorted(missing + foreign):
            if name in foreign:
                raise Damaged(f"{name} does not belong to it")
            size = _size(folder / name)
            if size is None:
                raise Damaged(f"{name} is missing")
            raise Damaged(f"{name} has {size} bytes, {files[name]['size']} were written")
        with ThreadPoolExecutor(THREADS) as pool:
            for name, found in zip(files, pool.map(_measure, [folder / name for name in files]), strict=True):
                if found != files[name]:
                    raise Damaged(f"{name} does not hold what was written: its checksum differs")
    return content["facts"]
