"""Files of labels of every format: what their rows say, whatever is odd about a file."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import typer

from gateway.cli.label_files import MAX_LINE_BYTES, Format, Row, format_of, open_labels
from gateway.cli.label_import import batches
from tests.cli.label_writers import WRITERS, Document, ground_truth, label, write_ndjson


def rows_of(file: Path, *, text_labels: bool = False) -> list[Row]:
    """The rows of a file whose name says its format."""
    return list(open_labels(file, format_of(file), text_labels=text_labels).rows)


def sent(rows: list[Row]) -> list[Any]:
    """What would be sent of rows none of which is refused."""
    assert [row.reason for row in rows if row.reason] == []
    return [json.loads(row.sent) for row in rows]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("prediction_id", pa.array([1])),
        ("row", pa.array([0.0])),
        ("label", pa.array([[1]])),
        ("observed_at", pa.array([0], pa.timestamp("us"))),
        ("attributes.x", pa.array([{"a": 1}])),
    ],
)
def test_a_parquet_column_of_another_type_is_a_usage_error(
    tmp_path: Path, column: str, values: pa.Array
) -> None:
    """A time without a zone among them: nobody knows when that was."""
    file = tmp_path / "labels.parquet"
    columns = {"prediction_id": pa.array(["x"]), "label": pa.array([1]), column: values}
    pq.write_table(pa.table(columns), file)
    with pytest.raises(typer.BadParameter, match=column):
        rows_of(file)


def test_the_format_is_that_of_the_name_or_of_the_first_line(tmp_path: Path) -> None:
    """`.jsonl` may be either; `--format` need not be given for either."""
    file = tmp_path / "labels.jsonl"
    for first, expected in (
        (json.dumps(label(1)), Format.NDJSON),
        ("\n\n" + json.dumps(ground_truth("x", "1")), Format.SAGEMAKER),
        ("no JSON", Format.NDJSON),
        ("", Format.NDJSON),
    ):
        file.write_text(first + "\n")
        assert format_of(file) is expected
    assert format_of(Path("LABELS.CSV")) is Format.CSV


def test_cells_of_csv_say_what_they_look_like(tmp_path: Path) -> None:
    """Numbers, booleans and texts; an empty cell says nothing."""
    file = tmp_path / "labels.csv"
    cells = ["1", "-2.5e3", "+.5", "true", "FALSE", "late", '"a,b"', "1_000", "0x10", ""]
    file.write_text("prediction_id,label\n" + "".join(f"p,{cell}\n" for cell in cells))
    found = [one.get("label") for one in sent(rows_of(file))]
    assert found == [1, -2500, 0.5, True, False, "late", "a,b", "1_000", "0x10", None]
    texts = [one.get("label") for one in sent(rows_of(file, text_labels=True))]
    assert texts == ["1", "-2.5e3", "+.5", "true", "FALSE", "late", "a,b", "1_000", "0x10", None]


def test_a_row_of_csv_is_known_by_its_first_line(tmp_path: Path) -> None:
    """Through a byte order mark, blank lines, carriage returns and cells of several lines."""
    file = tmp_path / "labels.csv"
    text = '\ufeffprediction_id,label,row\r\n\r\na,"two\r\nlines",0\r\nb,"say ""x""",7\r\nc,1,x\r\n'
    file.write_bytes(text.encode())
    rows = rows_of(file)
    assert [row.number for row in rows] == [3, 5, 6]
    assert sent(rows) == [
        {"prediction_id": "a", "label": "two\r\nlines", "row": 0},
        {"prediction_id": "b", "label": 'say "x"', "row": 7},
        {"prediction_id": "c", "label": 1, "row": "x"},
    ]
    assert rows[-1].end_bytes == file.stat().st_size


def test_what_is_not_utf8_is_refused_with_its_row(tmp_path: Path) -> None:
    """The rows beside it are read."""
    file = tmp_path / "labels.csv"
    file.write_bytes(b"prediction_id,label\na,1\nb,caf\xe9\nc,1\n")
    assert [bool(row.sent) for row in rows_of(file)] == [True, False, True]
    lines = tmp_path / "labels.jsonl"
    lines.write_bytes(json.dumps(ground_truth("x", "1")).encode() + b'\n{"\xe9": 1}\n')
    assert [bool(row.sent) for row in rows_of(lines)] == [True, False]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (ground_truth("x", "1,0"), "2 values"),
        (ground_truth("x", "1\n0"), "2 values"),
        (ground_truth("x", ""), "0 values"),
        (ground_truth("x", "nan"), "finite"),
        (ground_truth("x", "1", eventVersion="1"), "eventVersion"),
        (ground_truth("x", "1", eventMetadata={}), "eventId"),
        (ground_truth("x", "1", groundTruthData={"data": "1", "encoding": "BASE64"}), "encoding"),
        (label(1), "groundTruthData"),
    ],
)
def test_ground_truth_that_is_not_one_label_is_refused(
    tmp_path: Path, record: Document, reason: str
) -> None:
    """The record names the field; the next one is read."""
    file = tmp_path / "labels.jsonl"
    write_ndjson(file, [ground_truth("x", '"a,b"\n'), record, ground_truth("y", "0")])
    first, refused, last = rows_of(file)
    assert json.loads(first.sent) == {"prediction_id": "x", "label": "a,b"}
    assert not refused.sent and reason in refused.reason
    assert json.loads(last.sent) == {"prediction_id": "y", "label": 0}


def test_a_line_cannot_be_taken_for_two(tmp_path: Path) -> None:
    """The gateway ends lines at carriage returns too: the numbers after it would be wrong."""
    file = tmp_path / "labels.ndjson"
    file.write_bytes(b'{"a":\r1}\n  \r\n{"b":2}\r\n')
    rows = rows_of(file)
    assert [(row.number, row.sent) for row in rows] == [(1, b""), (3, b'{"b":2}')]
    assert "carriage return" in rows[0].reason


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Only its beginning is held; the line after it is found."""
    file = tmp_path / "labels.ndjson"
    with file.open("wb") as content:
        for _ in range(24):
            content.write(b"x" * MAX_LINE_BYTES)
        content.write(b'\n{"a": 1}\n')
    tracemalloc.start()
    rows = rows_of(file)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(row.number, bool(row.sent)) for row in rows] == [(1, False), (2, True)]
    assert peak_bytes < 6 * MAX_LINE_BYTES
    assert rows[-1].end_bytes == file.stat().st_size


@pytest.mark.parametrize(
    ("suffix", "count"),
    [("ndjson", 10_000), ("csv", 10_000), ("jsonl", 10_000), ("parquet", 40_000)],
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str, count: int) -> None:
    """Three times the rows, in one row group where there are such, in the same memory."""
    peaks = []
    for rows in (count, 3 * count):
        file = tmp_path / f"labels.{suffix}"
        WRITERS[suffix](file, [label(number) for number in range(rows)])
        peaks.append(_peak_bytes(file))
    assert peaks[1] < 1.3 * peaks[0]


def _peak_bytes(file: Path) -> int:
    """The greatest memory in use while a file is read, in Python or in Arrow."""
    arrow_bytes = 0
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    for _ in batches(open_labels(file, format_of(file), text_labels=False).rows):
        arrow_bytes = max(arrow_bytes, pa.total_allocated_bytes() - before)
    _, python_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return python_bytes + arrow_bytes


def test_rows_of_parquet_are_numbered_over_its_row_groups(tmp_path: Path) -> None:
    """Decimals, dictionaries, large texts and nulls are read as what they say."""
    file = tmp_path / "labels.parquet"
    table = pa.table(
        {
            "prediction_id": pa.array([f"{n}" for n in range(9)], pa.large_string()),
            "label": pa.array([n / 4 for n in range(9)]).cast(pa.decimal128(6, 2)),
            "row": pa.array([None, *range(8)], pa.uint8()),
            "attributes.gate": pa.array(["a", None, "b"] * 3).dictionary_encode(),
        }
    )
    pq.write_table(table, file, row_group_size=4)
    rows = rows_of(file)
    assert [row.number for row in rows] == list(range(1, 10))
    assert rows[-1].end_bytes == file.stat().st_size
    assert sent(rows)[:2] == [
        {"prediction_id": "0", "label": 0.0, "attributes": {"gate": "a"}},
        {"prediction_id": "1", "label": 0.25, "row": 0},
    ]


def _ends(rows: Iterator[Row]) -> list[int]:
    return [row.end_bytes for row in rows]


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_progress_never_goes_back_and_ends_at_the_end(tmp_path: Path, suffix: str) -> None:
    """The bytes done rise to the size of the file."""
    file = tmp_path / f"labels.{suffix}"
    WRITERS[suffix](file, [label(number) for number in range(100)])
    ends = _ends(open_labels(file, format_of(file), text_labels=False).rows)
    assert ends == sorted(ends) and ends[-1] == file.stat().st_size
