"""The main flow: one request, one record, and what becomes of it is what the record says."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.core.routes import EndpointRules
from gateway.core.tensors import from_raw
from gateway.errors import (
    AuditionError,
    InvalidInput,
    JournalUnavailable,
    ModelTimedOut,
    NonFiniteOutput,
    Overloaded,
)
from gateway.journal.tally import read_tally
from gateway.serving.dataplane import Answer
from tests import models
from tests.serving.pacing import HOUR_MS, LeapingClock, PacedModel
from tests.serving.scenes import NOON_US, TRACE, WRITER, Scene, call

MakeScene = Callable[..., Scene]
HOUR_US = 3_600_000_000


@pytest.fixture
def make_scene(tmp_path: Path) -> Iterator[MakeScene]:
    """A scene per call, closed at the end."""
    made: list[Scene] = []

    def make(*arguments: Any, **options: Any) -> Scene:
        made.append(Scene(tmp_path / str(len(made)), *arguments, **options))
        return made[-1]

    yield make
    for scene in made:
        scene.close()


def _infer(scene: Scene, arrays: Any = None, **facts: Any) -> Answer:
    fed = {"x": models.ramp(1, 3)} if arrays is None else arrays
    return asyncio.run(
        scene.dataplane.answer(scene.dataplane.open(scene.table, call(**facts)), fed)
    )


def _refused(scene: Scene, kind: type[AuditionError], arrays: Any = None, **facts: Any) -> str:
    with pytest.raises(kind) as refused:
        _infer(scene, arrays, **facts)
    return str(refused.value)


def test_an_answer_is_in_the_journal_before_it_leaves(make_scene: MakeScene) -> None:
    """The record holds who answered, what was read and what came out, bit for bit."""
    scene = make_scene({"1": models.linear(), "2": models.constant()})
    answer = _infer(
        scene,
        {"x": models.ramp(2, 3)},
        rows=2,
        entity="day-1",
        attributes={"carrier": "AA"},
        client="shop",
        client_request_id="r-1",
        occurred_at_us=NOON_US,
    )
    (record,) = scene.records()
    assert scene.sunk == [answer.record] == [record]
    assert (record.version, record.role, record.epoch) == ("1", "champion", scene.rollout.epoch)
    assert record.digest == scene.rollout.versions["1"].digest
    assert (record.status, record.exclusion, record.rows) == ("ok", "", 2)
    assert (record.entity, record.attributes) == ("day-1", {"carrier": "AA"})
    assert (record.client, record.client_request_id) == ("shop", "r-1")
    assert (record.trace_id, record.span_id) == (TRACE.trace_id, TRACE.span_id)
    (fed,) = record.inputs
    assert from_raw(fed.datatype, fed.shape, fed.data).tolist() == models.ramp(2, 3).tolist()
    (given,) = record.outputs
    assert from_raw(given.datatype, given.shape, given.data).tolist() == [8.0, 26.0]


def test_prediction_ids_are_distinct_and_name_their_writer(make_scene: MakeScene) -> None:
    """Refused requests have ids too; time, writer and a counter make them."""
    scene = make_scene({"1": models.linear()})
    _infer(scene)
    scene.dataplane.refuse(scene.table, call(), InvalidInput("body", "bad"))
    _infer(scene)
    ids = [record.prediction_id for record in scene.records()]
    assert len(set(ids)) == 3
    assert ids == sorted(ids)
    assert all(one[11:23] == WRITER for one in ids)
    assert {int(one[:11], 16) for one in ids} == {NOON_US // 1000}


def test_an_undecodable_request_is_one_row(make_scene: MakeScene) -> None:
    """However many rows it claimed: it is journalled as ineligible, without a version."""
    scene = make_scene({"1": models.linear()})
    refusal = InvalidInput("inputs[0].data", "bad")
    scene.dataplane.refuse(scene.table, call(rows=7), refusal)
    (record,) = scene.records()
    assert (record.status, record.exclusion) == ("undecodable", "undecodable")
    assert (record.rows, record.accepted_rows) == (1, 1)
    assert record.error == "inputs[0].data: bad"
    assert (record.version, record.digest, record.role) == ("", "", "")


def test_what_the_model_cannot_read_is_undecodable_too(make_scene: MakeScene) -> None:
    """A missing input shows only when the version is picked; it counts one row as well."""
    scene = make_scene({"1": models.pair()})
    refusal = _refused(scene, InvalidInput, {"a": np.zeros(5, np.float32)}, rows=5)
    assert "input 'b' is missing" in refusal
    (record,) = scene.records()
    assert (record.status, record.exclusion, record.rows) == ("undecodable", "undecodable", 1)
    assert scene.dataplane.accepted_rows == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_answer_that_is_no_number_is_a_failure_on_record(
    make_scene: MakeScene, value: float
) -> None:
    """The champion's failure is a result: eligible, with its inputs, without outputs."""
    scene = make_scene({"1": models.constant(value)})
    _refused(scene, NonFiniteOutput, {"x": models.ramp(2, 3)}, rows=2)
    (record,) = scene.records()
    assert (record.status, record.exclusion, record.rows) == ("nonfinite", "", 2)
    assert [tensor.name for tensor in record.inputs] == ["x"]
    assert record.outputs == []
    assert "output y" in record.error


def test_a_run_past_its_time_limit_is_on_record(make_scene: MakeScene) -> None:
    """The caller is told at the limit, and the thread is free again soon after."""
    rules = EndpointRules(time_limit_ms=HOUR_MS)
    endless = {"1": models.loop_while_positive()}
    scene = make_scene(endless, rules, is_inline=False, threads=1)
    clock, model = LeapingClock(), PacedModel(scene.table.versions["1"])

    def asked(value: float) -> asyncio.Task[Answer]:
        fed = {"x": np.full((1, 3), value, np.float32)}
        opened = scene.dataplane.open(scene.table, call())
        return asyncio.create_task(scene.dataplane.answer(opened, fed))

    async def outlast() -> str:
        endless_one = asked(1.0)
        await model.begun()
        clock.pass_an_hour()
        with pytest.raises(ModelTimedOut) as refused:
            await endless_one
        (record,) = scene.records()
        assert (record.status, record.exclusion) == ("timed_out", "")
        # Only the thread that was given back can answer this one: there is no other.
        assert (await asked(0.0)).outputs["y"].tolist() == [[0, 0, 0]]
        return str(refused.value)

    assert f"did not answer within {HOUR_MS} ms" in clock.run(outlast())


def test_overload_is_on_record_and_never_judged(make_scene: MakeScene) -> None:
    """No thread in time and no room to wait: turned away, excluded, and told so at once."""
    scene = make_scene(
        {"1": models.loop_while_positive()},
        EndpointRules(time_limit_ms=HOUR_MS),
        is_inline=False,
        threads=1,
        waiting=1,
    )
    fed = {"x": np.ones((1, 3), np.float32)}
    served = scene.table.versions["1"]
    clock, model = LeapingClock(), PacedModel(served)

    async def flood() -> list[Any]:
        # Holds the only thread until the others have given up.
        holder = asyncio.ensure_future(
            scene.runs.run_threaded(
                served,
                fed,
                rows=1,
                endpoint="demo",
                rules=EndpointRules(time_limit_ms=2 * HOUR_MS),
            )
        )
        await model.begun()
        asked = [
            asyncio.ensure_future(
                scene.dataplane.answer(scene.dataplane.open(scene.table, call()), fed)
            )
            for _ in range(3)
        ]
        await asyncio.wait(asked[1:])
        assert not asked[0].done()
        clock.pass_an_hour()
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert not holder.done()
        clock.pass_an_hour()
        await asyncio.wait((holder,))
        assert isinstance(holder.exception(), ModelTimedOut)
        return ends

    ends = clock.run(flood())
    assert [type(end) for end in ends] == [Overloaded] * 3
    waited, *turned_away = [str(end) for end in ends]
    assert "no run could begin within the time limit" in waited
    assert all("too many runs are waiting" in told for told in turned_away)
    statuses = Counter((record.status, record.exclusion) for record in scene.records())
    assert statuses == {("overloaded", "overload"): 3}


def test_a_pinned_version_answers_and_is_never_judged(make_scene: MakeScene) -> None:
    """Past the split, at full propensity, and excluded."""
    scene = make_scene({"1": models.linear(), "2": models.constant()})
    answer = _infer(scene, pinned="2")
    assert answer.served.version == "2"
    (record,) = scene.records()
    assert (record.version, record.role, record.exclusion) == ("2", "challenger", "pinned")
    assert record.propensity_bp == 10_000


def test_the_split_sticks_to_units_and_shares_the_rest(make_scene: MakeScene) -> None:
    """A unit always gets the same version; without one the prediction id decides."""
    scene = make_scene({"1": models.linear(), "2": models.constant()})
    scene.split(v1=5000, v2=5000)
    for unit in ("anna", "bert", "cleo", "dora"):
        versions = {_infer(scene, unit=unit).served.version for _ in range(4)}
        assert len(versions) == 1
    assert {_infer(scene).served.version for _ in range(30)} == {"1", "2"}
    records = scene.records()
    assert {record.propensity_bp for record in records} == {5000}
    assert {record.role for record in records} == {"champion", "challenger"}
    assert len({record.unit_hash for record in records[:16]}) == 4
    assert {record.unit_hash for record in records[16:]} == {None}


def test_a_request_keeps_the_table_it_began_with(make_scene: MakeScene) -> None:
    """A flip in between changes neither who answers nor which epoch is on record."""
    scene = make_scene({"1": models.linear(), "2": models.constant()})
    before = scene.table
    scene.promote("2")
    asyncio.run(
        scene.dataplane.answer(scene.dataplane.open(before, call()), {"x": models.ramp(1, 3)})
    )
    _infer(scene)
    first, second = scene.records()
    assert (first.version, first.role, second.version) == ("1", "champion", "2")
    assert second.epoch == first.epoch + 1


def test_a_time_too_far_ahead_is_refused_and_moves_nothing(make_scene: MakeScene) -> None:
    """The clock of the endpoint is the largest time sent; a wrong clock must not drag it along."""
    scene = make_scene({"1": models.linear()}, EndpointRules(event_time="client"))
    _infer(scene, occurred_at_us=NOON_US)
    refusal = _refused(scene, InvalidInput, occurred_at_us=NOON_US + 25 * HOUR_US, rows=1)
    assert refusal.startswith("parameters.occurred_at: ")
    assert scene.clock.now_us == NOON_US
    _infer(scene, occurred_at_us=NOON_US + 23 * HOUR_US)
    statuses = [record.status for record in scene.records()]
    assert statuses == ["ok", "undecodable", "ok"]


def test_the_books_count_rows_in_the_order_of_the_journal(make_scene: MakeScene) -> None:
    """Each record says how many rows came up to it, also where runs overtake each other.

    So a worker that is killed leaves books that balance: what was under way is in none.
    """
    scene = make_scene(
        {"1": models.loop_while_positive()}, EndpointRules(time_limit_ms=HOUR_MS), is_inline=False
    )
    clock, model = LeapingClock(), PacedModel(scene.table.versions["1"])

    async def overtake() -> None:
        slow = asyncio.ensure_future(
            scene.dataplane.answer(
                scene.dataplane.open(scene.table, call(rows=2)), {"x": np.ones((2, 3), np.float32)}
            )
        )
        await model.begun()
        await scene.dataplane.answer(
            scene.dataplane.open(scene.table, call()), {"x": np.zeros((1, 3), np.float32)}
        )
        after_the_fast = [(r.rows, r.accepted_rows) for r in scene.records()]
        assert after_the_fast == [(1, 1)]
        clock.pass_an_hour()
        with pytest.raises(ModelTimedOut):
            await slow

    clock.run(overtake())
    assert [(r.rows, r.accepted_rows) for r in scene.records()] == [(1, 1), (2, 3)]


def test_without_a_record_there_is_no_answer(make_scene: MakeScene) -> None:
    """A journal that cannot be written refuses, and the row is in no book."""
    scene = make_scene({"1": models.linear()})
    _infer(scene)
    scene.journal.problem = "the disk is full"
    assert "the disk is full" in _refused(scene, JournalUnavailable)
    assert (scene.dataplane.accepted_rows, scene.dataplane.unrecorded_rows) == (1, 0)
    assert len(scene.records()) == len(scene.sunk) == 1


def test_an_operator_may_choose_answers_over_records(make_scene: MakeScene) -> None:
    """`serve_unrecorded`: every such row is counted, so that it can freeze promotions."""
    scene = make_scene({"1": models.linear()}, serve_unrecorded=True)
    scene.journal.problem = "the disk is full"
    fed = {"x": models.ramp(2, 3)}
    assert _infer(scene, fed, rows=2).outputs["y"].tolist() == [8.0, 26.0]
    assert (scene.dataplane.accepted_rows, scene.dataplane.unrecorded_rows) == (2, 2)
    tally = read_tally(scene.folder / "journal" / scene.journal.writer_id)
    assert tally is not None and tally.accepted_rows == 2, "a kill now would leave no trace"
    scene.journal.problem = ""
    _infer(scene)
    (record,) = scene.records()
    assert record.accepted_rows == record.rows + scene.dataplane.unrecorded_rows


def test_durability_disk_waits_for_the_disk(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk reports an error, the answer is withheld; `process` does not wait for it."""

    def failing(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    careful = make_scene({"1": models.linear()}, EndpointRules(durability="disk"))
    _infer(careful)
    monkeypatch.setattr(os, "fdatasync", failing)
    assert "disk" in _refused(careful, JournalUnavailable)
    assert _infer(make_scene({"1": models.linear()})).record.prediction_id
