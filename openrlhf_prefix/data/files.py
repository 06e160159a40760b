"""Rows of a file, folder or hub name, one after another, each with its number; a broken one is a sentence.

    iterate("train.jsonl")  ->  (1, {"prompt": ..}), (2, "is not JSON: ..."), (3, {"prompt": ..})

JSON lines and parquet are streamed, so that a file of any size takes the memory of a few rows (of parquet, of a few
pages, which hold 1024 rows as most writers make them); everything else
(a `datasets` folder, json, csv, arrow, a hub name) is left to the `datasets` library, which maps it from disk.
A row's number counts from 1: the line of a JSONL file (blank lines are no rows, but count), else the row of the table.
As in OpenRLHF, NAME@FOLDER reads that folder (`data_dir`) of a hub name or of a local folder of files.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openrlhf_prefix.data import hub
from openrlhf_prefix.errors import UserError

TABLES = ("json", "csv", "arrow")
LOCAL = {".jsonl", ".parquet", *(f".{name}" for name in TABLES)}
BATCH = 32  # rows of a parquet file that are decoded at once
BUFFER = 2**20  # bytes of a column that are read at once; pyarrow's default reads a whole row group

Row = dict[str, Any] | str  # a row, or what is wrong with it


def iterate(name: str, split: str = "train", limit: int | None = None) -> Iterator[tuple[int, Row]]:
    """(number, row) of one dataset, at most `limit` of them.

    Args:
        name: .jsonl, .parquet, .json, .csv or .arrow file, a folder of `datasets`, or a hub name; these two also
            as NAME@FOLDER.
        split: of a folder or hub name; the first one there is where that name does not exist.

    Raises:
        UserError: there is no such file, or it cannot be read as what its name says.
    """
    name, folder = split_name(name)
    path = Path(name).expanduser()
    suffix = path.suffix.lower()
    if suffix in LOCAL and not path.exists():
        raise UserError(f"there is no {name!r} here ({Path.cwd()}); check the path")
    if suffix == ".jsonl":
        rows = _lines(path)
    elif suffix == ".parquet":
        rows = _parquet(path)
    else:
        rows = _datasets(name, split, folder)
    yield from itertools.islice(rows, limit)


def names_of(names: str) -> list[str]:
    """The names of a comma-separated list."""
    return [name.strip() for name in names.split(",") if name.strip()]


def split_name(name: str) -> tuple[str, str | None]:
    """NAME@FOLDER as (NAME, FOLDER); a path that is there with its @ is a name. Raises UserError for FILE@FOLDER."""
    name = name.strip()
    if "@" not in name or Path(name).expanduser().exists():
        return name, None
    base, _, folder = (part.strip() for part in name.rpartition("@"))
    path = Path(base).expanduser()
    if path.suffix.lower() in LOCAL or path.is_file():
        mend = f"leave @{folder} out" if path.exists() else "check the path"
        raise UserError(f"{name}: @ chooses a folder of a hub name, and {base} is a file, which has none: {mend}")
    if _is_saved(path):
        raise UserError(
            f"{name}: @ chooses a folder of files, and {base} was saved by `datasets`: leave @{folder} out, and "
            "choose a split with data.prompt_split (eval.split)"
        )
    return base, folder


def _is_saved(path: Path) -> bool:
    return (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists()


def count(name: str) -> int | None:
    """How many rows a parquet file says it has; None for what must be read to be counted."""
    path = Path(name).expanduser()
    if path.suffix.lower() != ".parquet" or not path.exists():
        return None
    return _open_parquet(path).metadata.num_rows


def _lines(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:  # broken JSON, bytes that are not UTF-8, endless nesting
                yield number, f"is not JSON: {error}"
                continue
            yield number, row if isinstance(row, dict) else "is not an object with a prompt and an answer"


def _open_parquet(path: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read: {_one_line(error)}") from None


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow

    batches = _open_parquet(path).iter_batches(batch_size=BATCH, use_threads=False)
    numbers = itertools.count(1)
    while True:
        try:
            batch = next(batches, None)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{path} cannot be read past row {next(numbers) - 1}: {_one_line(error)}") from None
        if batch is None:
            return
        for index in range(batch.num_rows):
            number = next(numbers)
            try:
                yield number, batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield number, f"holds bytes that are not UTF-8: {error.reason}"


def _datasets(name: str, split: str, folder: str | None = None) -> Iterator[tuple[int, Row]]:
    hub.prepare(name)
    from datasets import Dataset, disable_progress_bars, load_dataset, load_from_disk
    from datasets.exceptions import DatasetGenerationError

    disable_progress_bars()  # they would stand between the lines that a person reads
    path = Path(name).expanduser()
    suffix = path.suffix.lower().lstrip(".")
    try:
        if suffix in TABLES:
            data = load_dataset(suffix, data_files=str(path))
        elif _is_saved(path):
            data = load_from_disk(str(path))
        else:
            data = load_dataset(str(path) if path.exists() else name, data_dir=folder)
    except (DatasetGenerationError, ValueError, OSError) as error:
        said = f"{name} cannot be read: {_one_line(error.__cause__ or error)}"
        raise (UserError(said) if path.exists() else hub.refusal(said)) from None
    if not isinstance(data, Dataset):
        data = data[split] if split in data else next(iter(data.values()))
    yield from enumerate(data, 1)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def check_exists(flag: str, path: str) -> None:
    """`path` is there, unless it may be a hub name. Raises UserError."""
    if looks_local(path) and not Path(path).expanduser().exists():
        raise UserError(f"{flag}: there is no {path!r} here ({Path.cwd()}); check the path")


def check_datasets(flag: str, names: str) -> None:
    """Every name of a comma-separated list of data sets is there, or may be a hub name. Raises UserError."""
    for name in names_of(names):
        try:
            base, _ = split_name(name)
        except UserError as error:
            raise UserError(f"{flag}: {error}") from None
        check_exists(flag, base)


def check_template(template: str | None) -> None:
    """`template` has a place for the prompt. Raises UserError."""
    if template is not None and "{}" not in template:
        raise UserError(f"input_template {template!r} has no {{}}: that is where the prompt goes")


def looks_local(name: str) -> bool:
    """Whether `name` must be a file or folder, and cannot be a hub name such as Qwen/Qwen2.5-Math-7B or gpt2."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).suffix in _DATA_SUFFIXES


_DATA_SUFFIXES = {".json", ".jsonl", ".csv", ".parquet", ".arrow", ".py"}
