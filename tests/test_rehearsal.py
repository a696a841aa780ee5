"""Rehearsals over small archives, against numpy on the same rows."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.cli import main
from gateway.core.evidence import Histogram, quantise
from gateway.core.sequential.mixture import lower_bound
from gateway.errors import AuditionError, Refused, UnknownEndpoint, UnknownVersion
from gateway.rehearsal import Rehearsal
from tests.archive.records import prediction, tensor
from tests.rehearsing import NOON_US, Place, S, Traffic, prepared


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared state folder: making one takes seconds, and copying it does not."""
    return prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Place:
    """A state folder without any traffic."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path)


def test_losses_agreement_and_difference_are_those_of_numpy_on_the_same_rows(place: Place) -> None:
    """Inputs come back from the archive bit for bit, and labels by the final-label rule."""
    one, two, label = Traffic(place, requests=120).arrays()
    found = place.rehearse()
    result = found.result
    first, second = one >= 0.5, two >= 0.5
    labelled = ~np.isnan(label)
    assert result.losses is not None and result.difference is not None
    assert result.losses.n == result.labelled == labelled.sum()
    assert result.losses.champion == pytest.approx(np.mean(first[labelled] != label[labelled]))
    assert result.losses.challenger == pytest.approx(np.mean(second[labelled] != label[labelled]))
    assert result.without_labels.agreement == np.mean(first == second)
    known = (first != label).astype(float) - (second != label)
    worst = np.where(labelled, known, -1.0 * (first != second))
    best = np.where(labelled, known, 1.0 * (first != second))
    difference = result.difference
    assert difference.n == len(label) == found.rows.run
    assert difference.estimate == pytest.approx(worst.mean())
    assert difference.estimate_greatest == pytest.approx(best.mean())
    # Of the first registration: α · 6/π².
    threshold = -np.log(0.05 * 6 / np.pi**2)
    histogram = Histogram.of(quantise(worst))
    assert difference.lower == lower_bound(histogram, threshold)


def test_the_loss_of_probabilities_is_that_of_numpy(tmp_path: Path) -> None:
    """The same under the Brier loss, where every row counts."""
    place = Place(prepared(tmp_path, {"policy": {"metric": "brier"}}))
    one, two, label = Traffic(place, requests=40).arrays()
    labelled = ~np.isnan(label)
    losses = place.rehearse().result.losses
    assert losses is not None
    for found, score in ((losses.champion, one), (losses.challenger, two)):
        expected = np.mean((score.astype(float)[labelled] - label[labelled]) ** 2)
        assert found == pytest.approx(expected, rel=1e-6)


def test_an_entity_counts_once(tmp_path: Path) -> None:
    """Windows open at an entity's first row; rows behind them are counted and not judged."""
    place = Place(prepared(tmp_path, {"entity": {"from": "parameter", "window": "30s"}}))
    traffic = Traffic(place, requests=50, entities=10)
    result = place.rehearse().result
    assert result.difference is not None and result.difference.n == 10
    # Entity k speaks at seconds k, k + 10, …: those from k + 30 on come too late.
    late = sum(number >= 30 for number in traffic.request)
    assert result.after_window == late
    assert result.judged + result.after_window + result.not_due == len(traffic.request)


def _odd_rows(place: Place) -> None:
    digest = place.store().rollout("flights").versions["1"].digest
    inputs = [tensor("x", np.ones((1, 1), "f4")), tensor("y", np.ones((1, 1), "f4"))]
    odd: list[dict[str, Any]] = [
        {"exclusion": "pinned", "inputs": inputs},
        {"exclusion": "undecodable"},
        {"exclusion": "overload", "inputs": inputs, "status": "overloaded"},
        {"exclusion": "not_captured"},
        {"inputs": []},
        {"inputs": inputs, "digest": "another"},
        {"inputs": inputs[:1]},
        {"inputs": inputs, "status": "failed"},
    ]
    for number, changed in enumerate(odd):
        record = {"accepted_at_us": NOON_US + number * S, "digest": digest, **changed}
        place.append(prediction(f"{0xF000 + number:032x}", **record))
    place.archive.flush()


def test_every_row_is_counted_once(place: Place) -> None:
    """Excluded rows by their reason; those without an input that is read are refused."""
    rows = len(Traffic(place, requests=20).request)
    _odd_rows(place)
    found = place.rehearse()
    excluded = {kind: n for kind, n in found.rows.excluded.items() if n}
    assert excluded == {"pinned": 1, "undecodable": 1, "overload": 1, "other_version": 1}
    assert (found.rows.read, found.rows.run, found.rows.not_captured) == (rows + 8, rows + 2, 2)
    failures = found.result.without_labels
    assert (failures.challenger.refused, failures.champion.failed) == (1, 1)
    assert failures.both_answered == rows
    assert found.result.judged == rows + 2


def test_a_limit_takes_the_newest_whole_requests(place: Place) -> None:
    """No request is cut, and what is left out is counted."""
    traffic = Traffic(place, requests=30)
    found = place.rehearse(limit_rows=11)
    newest = [sum(r >= first for r in traffic.request) for first in range(30)]
    assert found.rows.run == max(n for n in newest if n <= 11)
    assert found.rows.run + found.rows.over_limit == found.rows.read == len(traffic.request)


def test_only_rows_of_the_time_asked_for_are_read(place: Place) -> None:
    """From since on, and before until."""
    traffic = Traffic(place, requests=30)
    found = place.rehearse(since=lambda _: NOON_US + 5 * S, until=lambda _: NOON_US + 9 * S)
    assert found.rows.read == sum(5 <= number < 9 for number in traffic.request)


def test_many_small_passes_say_what_one_says(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by parts and passes, and no figure depends on them."""
    Traffic(place, requests=60)
    whole = place.rehearse().result
    monkeypatch.setattr("gateway.judge.rehearsal._PASS_ROWS", 7)
    monkeypatch.setattr("gateway.rehearsal._WRITTEN_ROWS", 10)
    monkeypatch.setattr("gateway.archive.replay._BATCH_ROWS", 4)
    parts = place.rehearse().result
    assert parts.losses == whole.losses
    assert parts.difference == whole.difference
    assert parts.without_labels.agreement == whole.without_labels.agreement


def test_nothing_of_the_state_folder_changes(place: Place) -> None:
    """Not a byte: no journal, shadow, archive or decision knows of a rehearsal."""
    Traffic(place, requests=10)
    before = place.contents()
    assert place.rehearse().can_promote is False
    assert place.contents() == before


# -- what cannot be rehearsed ----------------------------------------------------------------------


def _refusal(place: Place, kind: type[AuditionError] = Refused, **asked: Any) -> str:
    with pytest.raises(kind) as refused:
        place.rehearse(**asked)
    return str(refused.value)


def test_what_is_not_there_is_said(place: Place) -> None:
    """An endpoint, a version, and a champion that would be its own challenger."""
    Traffic(place, requests=2)
    assert "nowhere" in _refusal(place, UnknownEndpoint, endpoint="nowhere")
    assert "models add" in _refusal(place, UnknownVersion, version="9")
    assert "is the champion" in _refusal(place, version="1")


def test_a_model_of_other_inputs_is_refused_with_what_there_is(place: Place) -> None:
    """Version 3 reads `z`, which nobody ever sent."""
    Traffic(place, requests=2)
    said = _refusal(place, version="3")
    assert "reads z" in said and "carry x, y" in said


def test_without_traffic_there_is_nothing_to_rehearse(place: Place) -> None:
    """None at all, and none in the time asked for."""
    assert "no prediction of endpoint flights at all" in _refusal(place)
    Traffic(place, requests=2)
    assert "in the time asked for" in _refusal(place, since=lambda _: NOON_US + 100 * S)


def test_without_captured_inputs_it_says_which_key_to_set(place: Place) -> None:
    """`capture.inputs: none` keeps nothing that could be run again."""
    place.append(prediction("1" * 32, exclusion="not_captured", digest="any"))
    place.archive.flush()
    assert "capture.inputs" in _refusal(place)


# -- the command -----------------------------------------------------------------------------------


def _command(place: Place, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    folders = ("--state", str(place.settings.state), "--models", str(place.models))
    monkeypatch.setattr(sys, "argv", ["audition", "rehearse", *arguments, *folders])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_the_command_ends_with_why_it_cannot_promote(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people the sentence comes last, for scripts it is a field; no bar without a terminal."""
    rows = len(Traffic(place, requests=10).request)
    assert _command(place, monkeypatch, "flights", "2", "--since", "2020-01-01T00:00:00Z") == 0
    shown = capsys.readouterr()
    lines = shown.out.strip().splitlines()
    assert lines[-1].startswith("A rehearsal cannot promote")
    assert f"{rows} read, {rows} run" in shown.out
    assert shown.err == ""
    assert _command(place, monkeypatch, "flights", "2", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["can_promote"] is False and "trained" in document["why_not"]
    assert set(document) == set(Rehearsal.__struct_fields__)


def test_the_command_refuses_with_its_exit_codes(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 where it cannot be done, 2 where the line makes no sense."""
    assert _command(place, monkeypatch, "flights", "9") == 1
    assert "models add" in capsys.readouterr().err
    assert _command(place, monkeypatch, "flights", "2", "--since", "yesterday") == 2
    assert "such as 7d" in " ".join(capsys.readouterr().err.split())
    assert _command(place, monkeypatch, "flights", "2", "--since", "2026-01-31T00:00:00") == 2
