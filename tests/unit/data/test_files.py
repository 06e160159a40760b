"""Rows arrive in order and with their numbers, from any kind of file; a broken one is a sentence, not the end."""

import json
from pathlib import Path

import pytest

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

from openrlhf_prefix.data.files import BATCH, check_datasets, count, iterate, names_of, split_name  # noqa: E402
from openrlhf_prefix.errors import UserError  # noqa: E402

ROWS = [{"prompt": f"p{index}", "answer": str(index), "demonstrations": ["a", "b"]} for index in range(2 * BATCH + 3)]


def parquet_file(path: Path, rows: list[dict] = ROWS) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_a_line_keeps_its_number_past_blank_and_broken_lines(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n\xff\n[1]\n{"a": 2}')
    found = list(iterate(str(path)))
    assert [number for number, _ in found] == [1, 3, 4, 5, 6]
    assert found[0][1] == {"a": 1} and found[-1][1] == {"a": 2}
    assert found[1][1].startswith("is not JSON") and found[2][1].startswith("is not JSON")
    assert found[3][1].startswith("is not an object")


def test_endless_nesting_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text("[" * 100_000 + "\n")
    ((number, sentence),) = iterate(str(path))
    assert number == 1 and sentence.startswith("is not JSON")


def test_parquet_rows_come_in_order_over_several_batches(tmp_path: Path) -> None:
    path = str(parquet_file(tmp_path / "set.parquet"))
    assert list(iterate(path)) == list(enumerate(ROWS, 1))
    assert count(path) == 2 * BATCH + 3
    assert list(iterate(path, limit=2)) == [(1, ROWS[0]), (2, ROWS[1])]


def test_a_folder_of_datasets_holds_the_same_rows_and_the_split_is_chosen(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(ROWS)
    made.save_to_disk(str(tmp_path / "flat"))
    datasets.DatasetDict({"train": made, "test": made.select([5])}).save_to_disk(str(tmp_path / "split"))
    assert list(iterate(str(tmp_path / "flat"))) == list(enumerate(ROWS, 1))
    assert list(iterate(str(tmp_path / "split"), "test")) == [(1, ROWS[5])]
    assert list(iterate(str(tmp_path / "split"), "train", limit=1)) == [(1, ROWS[0])]


def test_bytes_of_a_parquet_text_that_are_not_utf8_name_their_row(tmp_path: Path) -> None:
    texts = pyarrow.array([b"fine", b"\xff\xfe", b"fine again"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"prompt": texts}), tmp_path / "set.parquet")
    found = dict(iterate(str(tmp_path / "set.parquet")))
    assert (found[1], found[3]) == ({"prompt": "fine"}, {"prompt": "fine again"})
    assert found[2].startswith("holds bytes that are not UTF-8")


@pytest.mark.parametrize("name", ["set.jsonl", "set.parquet", "set.json", "set.csv", "set.arrow"])
def test_a_file_that_is_not_there_is_said_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"there is no '.*{name}' here"):
        list(iterate(str(tmp_path / name)))


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1" + b"\0" * 20 + b"PAR1"])
def test_a_broken_parquet_file_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match="set.parquet cannot be read"):
        list(iterate(str(path)))


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "set.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="set.parquet cannot be read"):
        list(iterate(str(path)))


def test_a_parquet_file_with_damaged_pages_names_the_row_it_could_not_pass(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "set.parquet")
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    with pytest.raises(UserError, match="set.parquet cannot be read past row 0"):
        list(iterate(str(path)))


def test_a_folder_cannot_be_read_as_a_file_of_lines(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").mkdir()
    with pytest.raises(UserError, match="set.jsonl cannot be read"):
        list(iterate(str(tmp_path / "set.jsonl")))


def test_numbers_of_json_stay_numbers(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(json.dumps({"answer": 0.1}) + "\n")
    assert list(iterate(str(tmp_path / "set.jsonl"))) == [(1, {"answer": 0.1})]


def test_a_folder_of_files_is_read_at_the_place_that_the_name_chooses(tmp_path: Path, monkeypatch) -> None:
    """As in OpenRLHF, NAME@FOLDER is data_dir of a folder of files."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for part in ("main", "other"):
        (tmp_path / "sets" / part).mkdir(parents=True)
        (tmp_path / "sets" / part / "train.jsonl").write_text(json.dumps({"prompt": part}) + "\n")
    assert list(iterate(f"{tmp_path / 'sets'}@other")) == [(1, {"prompt": "other"})]
    assert list(iterate(f" {tmp_path / 'sets'} @ main ")) == [(1, {"prompt": "main"})]
    check_datasets("data.prompt_dataset", f"{tmp_path / 'sets'}@main, {tmp_path / 'sets'}@other")


@pytest.mark.parametrize("name", ["set.jsonl", "set.parquet", "set.csv"])
def test_a_file_with_a_split_is_refused_by_the_file_check_and_by_the_reader(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{}\n")
    for refuse in (lambda text: check_datasets("data.prompt_dataset", text), lambda text: list(iterate(text))):
        with pytest.raises(UserError, match=f"{name} is a file, which has none: leave @train out"):
            refuse(f"{tmp_path / name}@train")
    with pytest.raises(UserError, match="is a file, which has none: check the path"):
        check_datasets("data.prompt_dataset", f"{tmp_path / 'absent.jsonl'}@train")


def test_a_saved_set_with_a_split_is_sent_to_the_flag_for_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "flat"))
    with pytest.raises(UserError, match="leave @test out, and choose a split with data.prompt_split"):
        check_datasets("data.prompt_dataset", f"{tmp_path / 'flat'}@test")


def test_a_path_that_is_there_with_its_at_sign_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "me@home").mkdir()
    path = tmp_path / "me@home" / "set.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n")
    assert split_name(str(path)) == (str(path), None) and list(iterate(str(path))) == [(1, ROWS[0])]
    assert split_name("openai/gsm8k@main") == ("openai/gsm8k", "main")
    assert names_of(" a.jsonl, b/c@d ,") == ["a.jsonl", "b/c@d"]
    with pytest.raises(UserError, match="there is no 'absent/set/x'"):
        check_datasets("data.prompt_dataset", f"{path},absent/set/x")
