"""`capture.inputs`: what the journal keeps of the inputs, and who can use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.core.records import PredictionRecord
from gateway.core.rollout import Challenge, Configure, Shadow, step
from gateway.core.routes import EndpointRules, Rollout
from gateway.endpoint_file import parse_endpoint_file
from gateway.errors import InvalidInput, ModelFailed, NonFiniteOutput, Refused
from gateway.shadow.tasks import plan_of, task_of
from tests import models
from tests.archive.scenes import registration, terms
from tests.serving.scenes import Scene, call

REQUESTS = 60


def _rules(inputs: str) -> EndpointRules:
    return parse_endpoint_file(f"capture: {{inputs: {inputs}}}", source="x").rules()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Champion 1 and challengers 2 and 3, each of whose shadows sees a third."""
    contents = {"1": models.linear(), "2": models.constant(), "3": models.constant(2.0)}
    made = Scene(tmp_path, contents)
    for version, key in (("2", "aa" * 32), ("3", "bb" * 32)):
        challenger = msgspec.structs.replace(
            made.rollout.challengers[version], registration_digest=key, probability_bp=3333
        )
        challengers = {**made.rollout.challengers, version: challenger}
        made.rollout = msgspec.structs.replace(made.rollout, challengers=challengers)
    yield made
    made.close()


def _serve(scene: Scene, inputs: str, requests: int = REQUESTS) -> list[PredictionRecord]:
    scene.serve(step(scene.rollout, Configure(_rules(inputs))))
    for _ in range(requests):
        _ask(scene)
    return scene.records()


def _ask(scene: Scene, **facts: object) -> None:
    opened = scene.dataplane.open(scene.table, call(**facts))
    asyncio.run(scene.dataplane.answer(opened, {"x": models.ramp(1, 3)}))


def _tasks(scene: Scene, record: PredictionRecord) -> list[str]:
    """The versions whose lanes would run this prediction."""
    wanted = []
    for one in scene.rollout.challengers.values():
        opened = registration(terms(), number=one.registration, version=one.version)
        plan = plan_of(opened, scene.rollout)
        assert plan is not None
        task = task_of(record, writer_id="w", end=1, plan=plan)
        wanted += [] if task is None else [one.version]
    return wanted


def test_sampled_keeps_exactly_what_a_shadow_will_see(scene: Scene) -> None:
    """By the same keyed hash as the lanes; outputs are always kept."""
    records = _serve(scene, "sampled")
    kept = [bool(record.inputs) for record in records]
    assert kept == [bool(_tasks(scene, record)) for record in records]
    assert 0 < sum(kept) < REQUESTS
    assert all(record.outputs and not record.exclusion for record in records)


def test_all_keeps_every_input(scene: Scene) -> None:
    """Which is what an endpoint without the key does."""
    assert EndpointRules() == _rules("all")
    assert all(record.inputs for record in _serve(scene, "all"))


def test_none_keeps_no_input_and_nothing_is_judged(scene: Scene) -> None:
    """The record says so, outputs and the row in the books are there, no lane asks for it."""
    records = _serve(scene, "none", requests=3)
    assert [(one.inputs, one.exclusion, one.rows) for one in records] == [
        ([], "not_captured", 1)
    ] * 3
    assert all(record.outputs for record in records)
    assert not any(_tasks(scene, record) for record in records)


def test_what_is_excluded_for_another_reason_says_that(scene: Scene) -> None:
    """And its inputs, which no shadow will see, are kept only where all are."""
    _serve(scene, "none", requests=0)
    _ask(scene, pinned="1")
    scene.dataplane.refuse(scene.table, call(), InvalidInput("body", "bad"))
    scene.serve(step(scene.rollout, Configure(_rules("sampled"))))
    _ask(scene, pinned="1")
    assert [(one.exclusion, one.inputs) for one in scene.records()] == [
        ("pinned", []), ("undecodable", []), ("pinned", []),
    ]  # fmt: skip


def test_without_a_shadow_nothing_is_kept(scene: Scene) -> None:
    """A share of nothing sees nothing; the next epoch may see all."""
    for version in "23":
        scene.rollout = step(scene.rollout, Shadow(version, 0))
    assert not any(record.inputs for record in _serve(scene, "sampled", requests=5))
    scene.serve(step(scene.rollout, Shadow("2", 10_000)))
    _ask(scene)
    assert scene.records()[-1].inputs


def test_a_failure_keeps_its_inputs_as_an_answer_does(tmp_path: Path) -> None:
    """A shadow runs on them too: the champion's failure is a row of the comparison."""
    scene = Scene(tmp_path, {"1": models.constant(float("nan")), "2": models.constant()})
    first = msgspec.structs.replace(scene.rollout.challengers["2"], registration_digest="cc" * 32)
    scene.rollout = msgspec.structs.replace(scene.rollout, challengers={"2": first})
    scene.serve(step(scene.rollout, Configure(_rules("sampled"))))
    with pytest.raises((NonFiniteOutput, ModelFailed)):
        _ask(scene)
    (record,) = scene.records()
    assert record.inputs and record.status == "nonfinite"
    scene.close()


def _challenge(rollout: Rollout) -> Rollout:
    withdrawn = msgspec.structs.replace(rollout, challengers={})
    return step(
        withdrawn,
        Challenge(version="2", registration=3, registration_digest="dd", probability_bp=10_000),
    )


def test_nobody_can_challenge_where_no_input_is_kept(scene: Scene) -> None:
    """The refusal names the key and what to do."""
    none = step(scene.rollout, Configure(_rules("none")))
    with pytest.raises(Refused, match=r"capture\.inputs: none.*set it to sampled or all"):
        _challenge(none)
    assert "2" in _challenge(step(none, Configure(_rules("sampled")))).challengers
