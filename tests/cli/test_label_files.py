"""Files of labels of every format: the same labels arrive, whatever is odd about a file."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import typer

from gateway.cli.label_files import MAX_LINE_BYTES, Format, Row, format_of, open_labels
from gateway.cli.label_import import batches
from gateway.journal.reader import JournalTail
from tests import test_cli
from tests.test_cli import WORKER, Gateway, Run

gateway, audition, here = test_cli.gateway, test_cli.audition, test_cli.here

Document = dict[str, Any]


def label(number: int, **fields: Any) -> Document:
    """A label of a prediction of its own."""
    return {"prediction_id": f"{number:032x}", "label": number % 2, **fields}


def write_ndjson(file: Path, labels: list[Document]) -> None:
    """One object a line."""
    file.write_text("".join(json.dumps(one) + "\n" for one in labels))


def write_csv(file: Path, labels: list[Document]) -> None:
    """The union of the fields as columns."""
    with file.open("w", newline="") as content:
        names = list(dict.fromkeys(name for one in labels for name in one))
        writer = csv.DictWriter(content, names)
        writer.writeheader()
        writer.writerows(labels)


def write_parquet(file: Path, labels: list[Document]) -> None:
    """Typed; a time is an instant, as others would write it."""
    columns = {name: [one.get(name) for one in labels] for name in labels[0]}
    if "observed_at" in columns:
        moments = [datetime.fromisoformat(text) for text in columns["observed_at"]]
        columns["observed_at"] = pa.array(moments, pa.timestamp("ns", tz="America/New_York"))
    pq.write_table(pa.table(columns), file)


def write_sagemaker(file: Path, labels: list[Document]) -> None:
    """What SageMaker's model monitor merges."""
    write_ndjson(file, [ground_truth(one["prediction_id"], str(one["label"])) for one in labels])


def ground_truth(prediction_id: str, data: str, **changed: Any) -> Document:
    """One record in SageMaker's form."""
    return {
        "groundTruthData": {"data": data, "encoding": "CSV"},
        "eventMetadata": {"eventId": prediction_id},
        "eventVersion": "0",
        **changed,
    }


WRITERS: dict[str, Callable[[Path, list[Document]], None]] = {
    "ndjson": write_ndjson,
    "csv": write_csv,
    "parquet": write_parquet,
    "jsonl": write_sagemaker,
}


def rows_of(file: Path, *, text_labels: bool = False) -> list[Row]:
    """The rows of a file whose name says its format."""
    return list(open_labels(file, format_of(file), text_labels=text_labels).rows)


def sent(rows: list[Row]) -> list[Any]:
    """What would be sent of rows none of which is refused."""
    assert [row.reason for row in rows if row.reason] == []
    return [json.loads(row.sent) for row in rows]


def journalled(gateway: Gateway) -> list[Any]:
    """Every label in the journal."""
    entries = JournalTail(gateway.state / "journal" / WORKER).drain()
    return [row for entry in entries for row in entry.record.rows]  # type: ignore[union-attr]


@pytest.fixture
def label_key(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has the key for labels."""
    monkeypatch.setenv("AUDITION_KEY", gateway.tokens["label"])


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_every_format_says_the_same_label(
    here: Run, gateway: Gateway, label_key: None, tmp_path: Path, suffix: str
) -> None:
    """What was imported as NDJSON is known when it comes in another format."""
    labels = [label(number) for number in range(40)]
    if suffix != "jsonl":
        at = datetime(2013, 4, 1, tzinfo=UTC)
        for number, one in enumerate(labels):
            moment = at + timedelta(hours=number, microseconds=number)
            one |= {"row": number, "observed_at": moment.isoformat(), "attributes.gate": "B7"}
    plain = [
        {name: value for name, value in one.items() if name != "attributes.gate"}
        | ({"attributes": {"gate": "B7"}} if "attributes.gate" in one else {})
        for one in labels
    ]
    write_ndjson(tmp_path / "labels.ndjson", plain)
    WRITERS[suffix](tmp_path / f"labels.{suffix}", labels)
    first = here("labels", "import", str(tmp_path / "labels.ndjson"), "--json")
    assert first.json() == {"accepted": 40, "duplicate": 0, "invalid": 0}, first.err
    other = here("labels", "import", str(tmp_path / f"labels.{suffix}"), "--json")
    assert other.json() == {"accepted": 0, "duplicate": 40, "invalid": 0}, other.err


def test_refused_rows_are_shown_counted_and_written(
    here: Run, gateway: Gateway, label_key: None, tmp_path: Path
) -> None:
    """Twenty are shown, all are counted, and the file of rejects has each with its reason."""
    labels = [label(number) for number in range(600)]
    for number in range(0, 600, 2):
        labels[number]["row"] = -1
    file, rejects = tmp_path / "labels.ndjson", tmp_path / "rejects.ndjson"
    write_ndjson(file, labels)
    ended = here("labels", "import", str(file), "--rejects", str(rejects))
    assert (ended.code, ended.out) == (1, "accepted 300, duplicate 0, invalid 300\n")
    told = ended.err.splitlines()
    assert told[:2] == ["line 1: row: must be 0 or more", "line 3: row: must be 0 or more"]
    assert len(told) == 21 and "280 more" in told[20]
    written = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [one["line"] for one in written] == list(range(1, 600, 2))
    assert {one["reason"] for one in written} == {"row: must be 0 or more"}
    assert [json.loads(one["source"]) for one in written] == labels[::2]


def test_rows_refused_here_and_there_keep_their_order(
    here: Run, gateway: Gateway, label_key: None, tmp_path: Path
) -> None:
    """A row that is never sent does not shift the numbers of those that the gateway refuses."""
    file, rejects = tmp_path / "labels.csv", tmp_path / "rejects.ndjson"
    good = f"{1:032x}"
    file.write_text(f"prediction_id,label\n{good},nan\nshort,1\n{good}\n\n{good},1\nshort,\n")
    ended = here("labels", "import", str(file), "--rejects", str(rejects), "--json")
    assert (ended.code, ended.json()) == (1, {"accepted": 1, "duplicate": 0, "invalid": 4})
    written = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [one["line"] for one in written] == [2, 3, 4, 7]
    assert "finite" in written[0]["reason"] and "prediction_id" in written[1]["reason"]
    assert "1 cells" in written[2]["reason"] and "label" in written[3]["reason"]


def test_an_import_that_stopped_goes_on_from_the_file(
    here: Run, gateway: Gateway, label_key: None, tmp_path: Path
) -> None:
    """What was sent before counts as duplicate, and every label is in the journal once."""
    file = tmp_path / "labels.csv"
    header, rows = "prediction_id,label\n", [f"{number:032x},1\n" for number in range(12_000)]
    file.write_text(header + "".join([*rows[:11_000], 'x,"un"closed\n', *rows[11_000:]]))
    stopped = here("labels", "import", str(file))
    assert stopped.code == 2 and "line 11002 is no CSV" in " ".join(stopped.err.split())
    kept = len(journalled(gateway))
    assert 0 < kept < 12_000 and "import the file again" in stopped.err
    file.write_text(header + "".join(rows))
    again = here("labels", "import", str(file), "--json")
    assert again.json() == {"accepted": 12_000 - kept, "duplicate": kept, "invalid": 0}
    assert len({row.label_id for row in journalled(gateway)}) == len(journalled(gateway)) == 12_000


def test_a_terminal_sees_rows_and_bytes(
    here: Run, gateway: Gateway, label_key: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress goes to standard error, and only there."""
    file = tmp_path / "labels.ndjson"
    write_ndjson(file, [label(number) for number in range(6000)])
    quiet = here("labels", "import", str(file))
    assert quiet.err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = here("labels", "import", str(file))
    assert "6,000 rows" in shown.err and "kB" in shown.err
    assert "rows" not in shown.out


def test_a_time_before_the_first_year_is_no_failure(
    here: Run, gateway: Gateway, label_key: None, tmp_path: Path
) -> None:
    """In UTC it has no calendar date, and it is a time all the same."""
    file = tmp_path / "labels.ndjson"
    write_ndjson(file, [label(1, observed_at="0001-01-01T00:00:00+14:00")])
    ended = here("labels", "import", str(file))
    assert ended.code == 0, ended.err


WITHOUT_SENSE = {
    "labels.txt": b"{}",
    "labels.csv": b"prediction_id;label\n",
    "empty.csv": b"",
    "typo.csv": b"prediction_id,label,observed\n",
    "nameless.csv": b"prediction_id,label,attributes.\n",
    "twice.csv": b"prediction_id,label,label\n",
    "wide.csv": b'prediction_id,label\n"' + b"x" * 200_000,
    "labels.parquet": b"PAR1 and nothing more",
}


@pytest.mark.parametrize("name", sorted(WITHOUT_SENSE))
def test_a_file_that_cannot_be_read_is_a_usage_error(
    here: Run, gateway: Gateway, tmp_path: Path, name: str
) -> None:
    """Exit code 2 and a message; nothing is sent."""
    (tmp_path / name).write_bytes(WITHOUT_SENSE[name])
    ended = here("labels", "import", str(tmp_path / name))
    assert ended.code == 2 and "Invalid value" in ended.err and "Traceback" not in ended.err
    assert journalled(gateway) == []


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


def test_options_that_make_no_sense_are_usage_errors(
    here: Run, gateway: Gateway, tmp_path: Path
) -> None:
    """Above all, the file of labels is never overwritten with its rejects."""
    file = tmp_path / "labels.ndjson"
    write_ndjson(file, [label(1)])
    for wrong in (("--rejects", str(file)), ("--text-labels",), ("--format", "xml")):
        assert here("labels", "import", str(file), *wrong).code == 2
    assert here("labels", "import", str(file), "--rejects", str(tmp_path / "no" / "x")).code == 2
    assert json.loads(file.read_text()) == label(1)


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


def test_batches_keep_order_and_limits() -> None:
    """No row is lost, doubled or reordered, whatever the limits."""
    rows = [Row(number, b"", b"x" * (number % 7), number) for number in range(1, 200)]
    for most, limit_bytes in ((1, 1), (7, 10_000), (1000, 50), (1000, 10_000)):
        found = list(batches(iter(rows), most=most, limit_bytes=limit_bytes))
        assert [row for batch in found for row in batch] == rows
        assert all(len(batch) <= most for batch in found)
        assert all(
            len(batch) == 1 or sum(len(row.sent) + 1 for row in batch) <= limit_bytes + 1
            for batch in found
        )


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
