"""How a run may end: each outcome has its status and its record."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from gateway.core.routes import EndpointRules
from tests import models
from tests.protocols.door import GOOD, INFER, Door, MakeDoor, sent
from tests.serving.pacing import HOUR_MS, LeapingClock, PacedModel


def test_rows_are_what_dimension_0_says(make_door: MakeDoor) -> None:
    """For a model of fixed dimensions a request is one row."""
    batch = {
        "inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[0, 1, 2]] * 2}]
    }
    many, single = make_door({"1": models.linear()}), make_door({"1": models.one_row_only()})
    assert many.post(batch).json()["outputs"][0]["data"] == [8.0, 8.0]
    assert many.outcomes() == [("ok", "", 2)]
    assert single.post(batch).status_code == 400
    assert single.post().status_code == 200
    assert [rows for *_, rows in single.outcomes()] == [1, 1]


@pytest.mark.parametrize(
    ("content", "status", "outcome"),
    [
        (models.constant(float("nan")), 502, ("nonfinite", "", 1)),
        (models.constant(float("inf")), 502, ("nonfinite", "", 1)),
    ],
)
def test_a_model_that_gives_no_number_is_a_502(
    make_door: MakeDoor, content: bytes, status: int, outcome: tuple[str, str, int]
) -> None:
    """Journalled, never a 200 with null."""
    door = make_door({"1": content})
    answer = door.post()
    assert answer.status_code == status
    assert "NaN or infinity in output y" in answer.json()["error"]
    assert door.outcomes() == [outcome]


def test_a_model_over_its_time_limit_is_a_504(make_door: MakeDoor) -> None:
    """Journalled as timed out, and the next request is answered."""
    door = make_door(
        {"1": models.loop_while_positive()},
        EndpointRules(time_limit_ms=HOUR_MS),
        is_inline=False,
        threads=1,
    )
    clock, model = LeapingClock(), PacedModel(door.table.versions["1"])

    async def outlast() -> Any:
        asked = asyncio.ensure_future(door.client.send("POST", INFER, json=GOOD))
        await model.begun()
        clock.pass_an_hour()
        return await asked

    assert clock.run(outlast()).status_code == 504
    assert door.post(sent(data=[0, 0, 0])).status_code == 200
    assert door.outcomes() == [("timed_out", "", 1), ("ok", "", 1)]


def test_overload_is_a_503_that_says_when_to_try_again(make_door: MakeDoor) -> None:
    """With Retry-After, journalled and excluded."""
    door = make_door(
        {"1": models.linear()},
        EndpointRules(time_limit_ms=HOUR_MS),
        is_inline=False,
        threads=1,
        waiting=0,
    )
    model = PacedModel(door.table.versions["1"])
    model.hold()
    slow = threading.Thread(target=door.post)
    slow.start()
    model.await_begun()
    answer = door.post()
    model.release()
    slow.join()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert door.outcomes() == [("overloaded", "overload", 1), ("ok", "", 1)]


def test_without_a_journal_there_is_no_answer(door: Door) -> None:
    """503, also for what would have been a 400: no outcome may go unrecorded."""
    door.journal.problem = "the disk is full"
    for answer in (door.post(), door.post(content=b"bad")):
        assert (answer.status_code, answer.json()) == (503, {"error": "the disk is full"})
    assert door.records() == []


def test_missing_values_pass_where_they_are_allowed(make_door: MakeDoor) -> None:
    """JSON null becomes NaN for the model, for the declared input only."""
    missing = sent(shape=[1, 2], data=[None, 1])
    door = make_door({"1": models.identity("FP32")}, EndpointRules(allow_missing=("x",)))
    answer = door.post(missing)
    assert answer.status_code == 502, "the identity of NaN is no number"
    assert np.isnan(np.frombuffer(door.records()[0].inputs[0].data, "<f4")[0])
    strict = make_door({"1": models.identity("FP32")})
    assert strict.post(missing).status_code == 400
