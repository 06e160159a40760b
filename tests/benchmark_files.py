"""Benchmark files in the exact layout of LUFFY's data/valid.all.parquet (01f4ae0), made of problems of ours."""

from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from openrlhf_prefix.evaluation.templates import TEMPLATES

MESSAGE = pyarrow.struct([("content", pyarrow.string()), ("role", pyarrow.string())])
SCHEMA = pyarrow.schema(
    [
        ("data_source", pyarrow.string()),
        ("prompt", pyarrow.list_(MESSAGE)),
        ("ability", pyarrow.string()),
        ("reward_model", pyarrow.struct([("ground_truth", pyarrow.string()), ("style", pyarrow.string())])),
        ("extra_info", pyarrow.struct([("index", pyarrow.int64()), ("split", pyarrow.string())])),
        ("__index_level_0__", pyarrow.int64()),
    ]
)
"""As pyarrow reads that file."""


def row(source: str, question: str, gold: Any, index: int = 0) -> dict[str, Any]:
    """One row; as in LUFFY's file every one has the long system message, `index` says nothing, and gold is text."""
    return {
        "data_source": source,
        "prompt": [
            {"content": TEMPLATES["luffy"].system, "role": "system"},
            {"content": question, "role": "user"},
        ],
        "ability": "math",
        "reward_model": {"ground_truth": gold, "style": "rule"},
        "extra_info": {"index": 0, "split": "default"},
        "__index_level_0__": index,
    }


def write(path: Path, rows: list[dict[str, Any]], schema: pyarrow.Schema | None = SCHEMA) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)
    return path


SUMS = ["2+5+7*9+6", "8-4-5*6*0+3", "1+2*3-8", "7+4*3-8"]
GOLDS = ["2", "3", "1", "5"]


def luffy_file(path: Path, repeats: int = 32) -> Path:
    """Two problems of AIME, each in `repeats` rows that stand apart as in LUFFY's file, and two of MATH in one row."""
    asked = [(f"Left to right, modulo 10: {sums}", gold) for sums, gold in zip(SUMS, GOLDS, strict=True)]
    rows = [row("math", *asked[2], 240), row("math", *asked[3], 241)]
    rows += [row("aime", *problem, place) for place in range(repeats) for problem in asked[:2]]
    return write(path, rows)
