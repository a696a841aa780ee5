"""Who runs in shadow: at every stage of a rollout, whichever of the two has not answered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core.routes import Challenger, Rollout
from gateway.core.split import is_sampled
from gateway.shadow.tasks import Task, plan_of, sampling_key, task_of
from tests.archive.records import prediction
from tests.archive.scenes import OPENED, registration, rollouts

REGISTRATION = registration()


def rollout(*, share_bp: int = 10_000, **changed: Any) -> Rollout:
    """The registration's first epoch, with a second challenger 3."""
    first = rollouts(REGISTRATION, share_bp)[OPENED]
    other = Challenger("3", 7, "ab" * 32, 10_000)
    challengers = {**first.challengers, "3": other}
    return msgspec.structs.replace(first, **{"challengers": challengers, **changed})


def asked(*, under: Rollout | None = None, **changed: Any) -> Task | None:
    """The task of one prediction."""
    plan = plan_of(REGISTRATION, under or rollout())
    record = prediction("0" * 32, **changed)
    return None if plan is None else task_of(record, writer_id="w1", end=99, plan=plan)


@pytest.mark.parametrize(
    ("answered", "runs"),
    [("1", ("2",)), ("2", ("1",)), ("3", ("1", "2"))],
    ids=["champion", "challenger", "other-challenger"],
)
def test_whoever_did_not_answer_is_run(answered: str, runs: tuple[str, ...]) -> None:
    """Champion and challenger are both needed for a pair, whoever answered the client."""
    found = asked(version=answered)
    assert found is not None
    assert (found.versions, found.writer_id, found.end) == (runs, "w1", 99)
    assert found.probability_bp == 10_000


@pytest.mark.parametrize("exclusion", ["undecodable", "pinned", "overload", "not_captured"])
def test_excluded_predictions_are_run_by_nobody(exclusion: str) -> None:
    """What is not judged is not run."""
    assert asked(exclusion=exclusion) is None


def test_an_empty_batch_has_nothing_to_run() -> None:
    """It was answered, but it has no row that could be compared."""
    assert asked(rows=0) is None


@pytest.mark.parametrize("status", ["failed", "timed_out", "nonfinite"])
def test_a_failure_of_the_champion_is_run_like_an_answer(status: str) -> None:
    """Inclusion does not depend on how the champion fared."""
    found = asked(status=status)
    assert found is not None and found.versions == ("2",)


def test_sampling_follows_the_keyed_hash() -> None:
    """Exactly the predictions that the archive will call sampled are run."""
    key = sampling_key(REGISTRATION.digest)
    plan = plan_of(REGISTRATION, rollout(share_bp=2500))
    assert plan is not None
    for number in range(300):
        name = f"{number:032x}"
        found = task_of(prediction(name), writer_id="w1", end=1, plan=plan)
        assert (found is not None) == is_sampled(name, key=key, probability_bp=2500)


def test_a_share_of_nothing_runs_nothing() -> None:
    """Shadow turned off asks for no run."""
    assert asked(under=rollout(share_bp=0)) is None


def test_another_registration_of_the_version_is_not_ours() -> None:
    """A version that is challenged anew under a later epoch belongs to its new registration."""
    later = Challenger("2", 8, "cd" * 32, 10_000)
    assert asked(under=rollout(challengers={"2": later})) is None
    assert asked(under=rollout(challengers={})) is None
