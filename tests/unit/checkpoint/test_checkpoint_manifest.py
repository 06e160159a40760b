"""A folder is a checkpoint when every byte is what was written; anything else is named."""

import errno
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from openrlhf_prefix.checkpoint import manifest

FILES = {"model.pt": b"weights" * 100, "rank_0.pt": b"generators", "hf/config.json": b"{}\n"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest.write(tmp_path, manifest.seal(tmp_path, manifest.files_of(tmp_path)), {"step": 4})
    return tmp_path


def flip(path: Path, bit: int) -> None:
    """Turns over one bit, counted from the start of the file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(content))


def test_a_whole_folder_returns_its_facts(folder: Path) -> None:
    assert manifest.verify(folder) == {"step": 4}


def test_the_checksum_is_sha256(folder: Path) -> None:
    """Of b"generators", from `printf generators | sha256sum`: another tool can check a checkpoint."""
    entry = manifest.read(folder)["files"]["rank_0.pt"]
    assert entry == {"size": 10, "sha256": "0c05dfd5f873d9a3821623c887f48cb139055302b930999d6df5647d2df27fe7"}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_damage_names_the_file(folder: Path, name: str) -> None:
    """One byte short, one too many, all zeros of the same length, one bit in the middle, empty, and gone."""
    path, content = folder / name, FILES[name]
    for damaged in (content[:-1], content + b"x", bytes(len(content)), b""):
        path.write_bytes(damaged)
        with pytest.raises(manifest.Damaged, match=name):
            manifest.verify(folder)
    path.write_bytes(content)
    flip(path, 4 * len(content))
    with pytest.raises(manifest.Damaged, match=f"{name} does not hold what was written"):
        manifest.verify(folder)
    path.unlink()
    with pytest.raises(manifest.Damaged, match=f"{name} is missing"):
        manifest.verify(folder)


def test_a_file_that_does_not_belong_is_damage(folder: Path) -> None:
    """A leftover of another save: DeepSpeed would read the shares of ranks that are no longer there."""
    (folder / "rank_1.pt").write_bytes(b"")
    with pytest.raises(manifest.Damaged, match=r"rank_1\.pt does not belong"):
        manifest.verify(folder)


def test_any_flipped_bit_of_the_manifest_is_found(folder: Path) -> None:
    """One in every byte of the whole file, white space and the checksum's own line included."""
    path = folder / manifest.NAME
    whole = path.read_bytes()
    for byte in range(len(whole)):
        flip(path, 8 * byte + byte % 8)
        with pytest.raises(manifest.Damaged, match=r"manifest\.json"):
            manifest.read(folder)
        path.write_bytes(whole)
    assert manifest.verify(folder) == {"step": 4}


def test_a_manifest_cut_short_or_missing_is_no_checkpoint(folder: Path) -> None:
    path = folder / manifest.NAME
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(manifest.Damaged, match=r"manifest\.json"):
            manifest.read(folder)
    path.unlink()
    with pytest.raises(manifest.Damaged, match="the save was not finished"):
        manifest.verify(folder)


def test_a_manifest_of_a_later_format_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "FORMAT", manifest.FORMAT + 1)
    with pytest.raises(manifest.Damaged, match="format 1, this version reads 2"):
        manifest.verify(folder)


def test_files_and_folders_are_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file, the manifest after all others, then the folders that hold their names."""
    synced = []
    monkeypatch.setattr(
        manifest.os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    )
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "a").write_bytes(b"a")
    manifest.write(tmp_path, manifest.seal(tmp_path, ["hf/a"]), {})
    names = [os.path.relpath(path, tmp_path) for path in synced]
    assert names == ["hf/a", manifest.NAME, "hf", "."]


def failing(number: int, name: str, honest: Callable) -> Callable:
    """A function of the file system that fails with an errno for the paths that end in `name`."""

    def call(path: object, *rest: object, **options: object) -> object:
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), str(path))
        return honest(path, *rest, **options)

    return call


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize(
    ("function", "name"),
    [*product(("open", "stat"), FILES), ("open", manifest.NAME)],  # whose size nobody asks for
)
def test_a_file_system_that_does_not_answer_is_not_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, function: str, name: str
) -> None:
    """Of the manifest and of every other file, at its size and at its bytes: nothing is known, and the sentence says
    so; when the file system answers again, the checkpoint is whole."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, function, failing(number, name, getattr(Path, function)))
        with pytest.raises(manifest.Unreadable, match=rf"{name} cannot be read \({os.strerror(number)}\)"):
            manifest.verify(folder)
    assert manifest.verify(folder) == {"step": 4}


def test_a_folder_that_cannot_be_listed_is_not_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path.rglob passes over what it may not read: every file of hf/ would seem to be missing."""
    monkeypatch.setattr(os, "scandir", failing(errno.EACCES, "hf", os.scandir))
    with pytest.raises(manifest.Unreadable, match="hf cannot be read"):
        manifest.verify(folder)


def test_what_nfs_keeps_of_a_deleted_open_file_is_not_counted(folder: Path) -> None:
    (folder / "hf" / ".nfs000000000234").write_bytes(b"x")
    assert manifest.verify(folder) == {"step": 4}
    assert manifest.difference(folder, manifest.read(folder)["files"]) == ([], [])


def test_a_file_is_looked_for_by_its_name_and_not_in_a_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of a shared file system may show a list of names from before the last of them was written."""
    monkeypatch.setattr(manifest, "files_of", lambda folder: ["model.pt"])
    assert manifest.verify(folder) == {"step": 4}


def test_the_difference_names_what_is_missing_short_or_foreign(folder: Path) -> None:
    files = manifest.read(folder)["files"]
    (folder / "model.pt").write_bytes(b"short")
    (folder / "hf" / "config.json").unlink()
    (folder / "rank_1.pt").write_bytes(b"")
    assert manifest.difference(folder, files) == (["hf/config.json", "model.pt"], ["rank_1.pt"])


def test_a_file_in_place_of_a_folder_is_damage(folder: Path) -> None:
    (folder / "hf" / "config.json").unlink()
    (folder / "hf").rmdir()
    (folder / "hf").write_bytes(b"")
    with pytest.raises(manifest.Damaged, match="hf does not belong"):
        manifest.verify(folder)
