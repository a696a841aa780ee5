"""Labels go in by the command, and journals are counted and verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.journal.reader import JournalTail
from tests.cli.server import WORKER, Gateway, Run


def _label(number: int, label: object = 1) -> str:
    return json.dumps({"prediction_id": f"{number:032x}", "label": label})


def test_labels_are_imported_and_counted(
    here: Run, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice is once; they are in the journal; an admin key may not."""
    file = tmp_path / "labels.ndjson"
    file.write_text("\n".join(_label(number) for number in range(25)) + "\n\n")
    assert here("labels", "import", str(file)).code == 1
    monkeypatch.setenv("AUDITION_KEY", gateway.tokens["label"])
    first = here("labels", "import", str(file))
    assert (first.code, first.out) == (0, "accepted 25, duplicate 0, invalid 0\n"), first.err
    again = here("labels", "import", str(file), "--json").json()
    assert again == {"accepted": 0, "duplicate": 25, "invalid": 0}
    records = [entry.record for entry in JournalTail(gateway.state / "journal" / WORKER).drain()]
    assert sum(len(record.rows) for record in records) == 25  # type: ignore[union-attr]


def test_an_invalid_label_is_named_by_its_line(here: Run, gateway: Gateway, tmp_path: Path) -> None:
    """The others are kept, and the exit code is 1."""
    file = tmp_path / "labels.ndjson"
    file.write_text("\n".join([_label(1), "", '{"prediction_id": "x", "label": 1}', _label(2)]))
    ended = here("--key", gateway.tokens["label"], "labels", "import", str(file))
    assert (ended.code, ended.out) == (1, "accepted 2, duplicate 0, invalid 1\n")
    assert "line 3: prediction_id" in ended.err


def test_journals_are_counted_and_verified(
    here: Run, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged journal exits 1 and is named."""
    file = tmp_path / "labels.ndjson"
    file.write_text("\n".join(_label(number) for number in range(5)))
    here("--key", gateway.tokens["label"], "labels", "import", str(file))
    monkeypatch.setenv("AUDITION_STATE", str(gateway.state))
    counted = here("journal", "stats")
    assert counted.code == 0 and WORKER in counted.out and "LabelsRecord 1" in counted.out
    assert here("journal", "verify").out == "1 journals read\n"
    file.write_text("\n".join(_label(number, label=0) for number in range(5)))
    here("--key", gateway.tokens["label"], "labels", "import", str(file))
    (segment,) = (gateway.state / "journal" / WORKER).glob("*.seg")
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 3] ^= 0xFF
    segment.write_bytes(bytes(damaged))
    gateway._server.should_exit = True
    gateway._thread.join()
    ended = here("journal", "verify", "--state", str(gateway.state), "--json")
    assert ended.code == 1 and ended.json()["problems"]
    assert WORKER in ended.err
