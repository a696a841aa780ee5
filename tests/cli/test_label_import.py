"""`audition labels import` against a real server: what is sent, shown, written and kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.label_files import Row
from gateway.cli.label_import import batches
from gateway.journal.reader import JournalTail
from tests.cli.label_writers import WRITERS, label, write_ndjson
from tests.cli.server import WORKER, Gateway, Run


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


def test_a_time_that_no_export_could_hold_is_a_refused_row(
    here: Run, gateway: Gateway, label_key: None, tmp_path: Path
) -> None:
    """In UTC it has no calendar date; the row is named, and the command says so."""
    file = tmp_path / "labels.ndjson"
    write_ndjson(file, [label(1, observed_at="0001-01-01T00:00:00+14:00")])
    ended = here("labels", "import", str(file))
    assert ended.code == 1
    assert "observed_at: send a time between 1970 and 9998" in ended.out + ended.err


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
