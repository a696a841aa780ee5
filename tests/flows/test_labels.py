"""Labels into a real gateway by every door, and out again with the predictions they belong to."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests.flows.endpoints import LABELLED
from tests.serving_process import ServingProcess, eventually, lines

Document = dict[str, Any]
NDJSON = {"content-type": "application/x-ndjson"}
UNKNOWN = "0" * 32


@pytest.fixture
def workers(gateway: ServingProcess) -> Iterator[list[httpx.Client]]:
    """A connection to each of the two workers."""
    with ExitStack() as stack:
        found: dict[str, httpx.Client] = {}

        def both() -> list[httpx.Client] | None:
            http = stack.enter_context(gateway.http())
            found.setdefault(ask(http)[11:23], http)
            return list(found.values()) if len(found) == 2 else None

        yield eventually(both)


def ask(http: httpx.Client) -> str:
    """The id of a new prediction of one row; its digits 11 to 23 name the worker."""
    column = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}
    answer = http.post(f"/v2/models/{LABELLED}/infer", json={"inputs": [column]})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-prediction-id"]


def post(gateway: ServingProcess, http: httpx.Client, *labels: Document) -> Document:
    """Post labels as NDJSON; the counts of the answer."""
    headers = {**NDJSON, **gateway.authorization("label")}
    answer = http.post("/v1/labels", content=lines(*labels), headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(json.loads(answer.content))


def books(gateway: ServingProcess, is_right: Callable[[Document], bool]) -> Document:
    """The endpoint's label books, once they say what is claimed."""

    def read() -> Document | None:
        evaluator = gateway.status(LABELLED)["evaluator"] or {}  # None before its first word
        found = evaluator.get("labels")
        return found if found and is_right(found) else None

    return eventually(read)


def settled_books(gateway: ServingProcess, http: httpx.Client) -> Document:
    """The label books once everything that was posted before is in them."""
    gateway.caught_up(LABELLED)
    received = ((gateway.status(LABELLED)["evaluator"] or {}).get("labels") or {}).get(
        "received", 0
    )
    post(gateway, http, {"prediction_id": ask(http), "label": 1})
    # They are drawn up again for this one, from all that the archive held already.
    return books(gateway, lambda found: found["received"] > received)


def test_labels_come_as_an_array_or_as_lines(
    gateway: ServingProcess, workers: list[httpx.Client]
) -> None:
    """The same labels in either form are the same labels."""
    labels = [{"prediction_id": ask(workers[0]), "label": value} for value in (1, 0)]
    array = workers[0].post("/v1/labels", json=labels, headers=gateway.authorization("label"))
    assert array.status_code == 202
    assert json.loads(array.content)["accepted"] == 2
    assert post(gateway, workers[0], *labels)["duplicate"] == 2


def test_a_label_sent_again_to_another_worker_is_a_duplicate(
    gateway: ServingProcess, workers: list[httpx.Client]
) -> None:
    """Idempotent over the whole gateway, whoever of it answers."""
    label = {"prediction_id": ask(workers[0]), "row": 0, "label": 1}
    counts = [post(gateway, http, label) for http in (*workers, *reversed(workers))]
    assert [(one["accepted"], one["duplicate"]) for one in counts] == [(1, 0)] + [(0, 1)] * 3


def test_a_correction_is_kept_beside_what_it_corrects(
    gateway: ServingProcess, workers: list[httpx.Client]
) -> None:
    """A later, other label of the same row is a new one, also by way of another worker."""
    row = {"prediction_id": ask(workers[0])}
    before = settled_books(gateway, workers[0])["corrections"]
    assert post(gateway, workers[0], {**row, "label": 0})["accepted"] == 1
    assert post(gateway, workers[1], {**row, "label": 1})["accepted"] == 1
    books(gateway, lambda found: found["corrections"] == before + 1)


def test_a_bad_row_is_named_and_the_others_are_kept(
    gateway: ServingProcess, workers: list[httpx.Client]
) -> None:
    """By its place, with the field that is wrong."""
    good = {"prediction_id": ask(workers[0]), "label": 1}
    other = {"prediction_id": ask(workers[0]), "label": True}
    bad = [
        {"prediction_id": "short", "label": 1},
        {**good, "row": -1},
        {**good, "label": None},
        {**good, "observed_at": "yesterday"},
        {**good, "lable": 1},
    ]
    counts = post(gateway, workers[0], good, *bad, other)
    assert (counts["accepted"], counts["invalid"]) == (2, 5)
    named = {one["index"]: one["reason"] for one in counts["invalid_rows"]}
    assert sorted(named) == [1, 2, 3, 4, 5]
    for index, field in enumerate(("prediction_id", "row", "label", "observed_at", "lable"), 1):
        assert field in named[index]


def test_a_label_of_nothing_known_is_parked_and_reported(
    gateway: ServingProcess, workers: list[httpx.Client]
) -> None:
    """It may come before its prediction is known; operators see how many wait."""
    before = settled_books(gateway, workers[0])["parked"]
    unknown = [{"prediction_id": UNKNOWN, "row": row, "label": 1} for row in range(3)]
    assert post(gateway, workers[1], *unknown)["accepted"] == 3
    books(gateway, lambda found: found["parked"] == before + 3)


def test_a_file_of_labels_is_imported_and_may_be_again(
    gateway: ServingProcess, workers: list[httpx.Client], tmp_path: Path
) -> None:
    """`audition labels import`: counts, bad lines by number and exit code 1; a label key only."""
    good = [{"prediction_id": ask(http), "label": 0} for http in workers]
    file = tmp_path / "labels.ndjson"
    file.write_bytes(lines(*good) + b"\n")
    first = gateway.cli("labels", "import", str(file), "--json", role="label")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"accepted": 2, "duplicate": 0, "invalid": 0}
    file.write_bytes(lines(*good, {"prediction_id": "x", "label": 0}) + b"\n")
    again = gateway.cli("labels", "import", str(file), "--json", role="label")
    assert again.returncode == 1 and "line 3" in again.stderr
    assert json.loads(again.stdout) == {"accepted": 0, "duplicate": 2, "invalid": 1}
    refused = gateway.cli("labels", "import", str(file), role="admin")
    assert refused.returncode == 1 and "label" in refused.stderr


READERS: dict[str, Callable[[Path], list[str]]] = {
    "ndjson": lambda path: [
        json.loads(line)["prediction_id"] for line in path.read_bytes().splitlines()
    ],
    "csv": lambda path: [
        row["prediction_id"] for row in csv.DictReader(path.read_text().splitlines())
    ],
    "parquet": lambda path: pq.read_table(path)["prediction_id"].to_pylist(),
}


@pytest.mark.parametrize("form", sorted(READERS))
def test_an_export_holds_all_that_was_answered_before(
    gateway: ServingProcess, workers: list[httpx.Client], tmp_path: Path, form: str
) -> None:
    """Every prediction of both workers up to the call, once, in each format."""
    answered = [ask(http) for http in workers * 10]
    file = tmp_path / f"table.{form}"
    done = gateway.cli("export", LABELLED, "--format", form, "--output", str(file), role="view")
    assert done.returncode == 0, done.stderr
    ids = READERS[form](file)
    assert set(answered) <= set(ids) and len(set(ids)) == len(ids)


def test_an_export_waits_for_what_is_not_archived_yet(
    gateway: ServingProcess, workers: list[httpx.Client], tmp_path: Path
) -> None:
    """With the Evaluator stopped it gives no table rather than one with holes."""
    file = tmp_path / "table.ndjson"
    evaluator = gateway.evaluator()
    arguments = ("export", LABELLED, "--format", "ndjson", "--output", str(file))
    with ThreadPoolExecutor(1) as pool:
        evaluator.suspend()
        try:
            answered = [ask(http) for http in workers]
            exporting = pool.submit(gateway.cli, *arguments, role="view")
            # Long enough for an export that does not wait; no claim hangs on how long.
            wait([exporting], timeout=3)
        finally:
            evaluator.resume()
        done = exporting.result()
    assert done.returncode == 0, done.stderr
    assert set(answered) <= set(READERS["ndjson"](file))


def test_journals_are_counted_and_found_whole(
    gateway: ServingProcess, workers: list[httpx.Client]
) -> None:
    """`audition journal stats` and `verify` over a state folder that is being written."""
    for http in workers:
        ask(http)
    counted = gateway.cli("journal", "stats", "--json")
    assert counted.returncode == 0, counted.stderr
    found = json.loads(counted.stdout)["journal"]
    assert sum(one["alive"] for one in found) == 2
    assert all(one["records"]["PredictionRecord"] > 0 for one in found if one["alive"])
    assert all(one["rows"] == one["accepted_rows"] for one in found)
    verified = gateway.cli("journal", "verify", "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["problems"] == []
