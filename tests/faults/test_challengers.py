"""Challengers that hang, take all memory, give NaN, are gone or crash: the champion answers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import psutil
import pytest

from tests import moody_models
from tests.faults.ledger import Ledger
from tests.load import Load
from tests.serving_process import ServingProcess, eventually, start_server
from tests.synthetic_models import write_endpoint

ENDPOINT = "moody"
HANGS, STARVES, GIVES_NAN, IS_GONE, IS_CALM = "2", "3", "4", "5", "6"
_TOO_MUCH = 1001.0

pytestmark = pytest.mark.timeout(900)


def number(asked: int) -> float:
    """Now and then a client asks what a moody model cannot bear."""
    return _TOO_MUCH if asked % 30 == 20 else asked % 7


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """A calm champion and five challengers in its shadow, one of them without its file."""
    folder = tmp_path_factory.mktemp("challengers")
    versions = {
        "1": moody_models.calm(),
        HANGS: moody_models.endless(),
        STARVES: moody_models.hungry(),
        GIVES_NAN: moody_models.nonfinite(),
        IS_GONE: moody_models.calm(),
        IS_CALM: moody_models.calm(),
    }
    for version, model in versions.items():
        model.doc_string = version  # one file would be one digest
    write_endpoint(folder / "models", ENDPOINT, versions, {"champion": "1"})
    limits = {"AUDITION_SHADOW_TIME_LIMIT_S": "0.5"}
    found = start_server(folder / "gateway", folder / "models", env=limits)
    try:
        for version in (HANGS, STARVES, GIVES_NAN, IS_GONE, IS_CALM):
            found.change(ENDPOINT, "PUT", "challengers", version)
        (folder / "models" / ENDPOINT / IS_GONE / "model.onnx").unlink()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def load(server: ServingProcess) -> Load:
    """Requests while the challengers fare badly and every runner crashes once."""
    with Load(server.url, ENDPOINT, number=number) as found:
        found.await_answers(80)
        for runner in eventually(lambda: runners(server)):
            with suppress(psutil.NoSuchProcess):  # its model has ended it just now
                runner.send_signal(signal.SIGSEGV)
        found.await_answers(140)
    server.caught_up(ENDPOINT)
    return found


def runners(server: ServingProcess) -> list[psutil.Process]:
    """The processes that hold a challenger now."""
    return [one for one in server.descendants() if "gateway.runtimes.runner" in _command(one)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def test_clients_notice_nothing(load: Load) -> None:
    """Every request was answered."""
    assert not load.refused and not load.broken


@pytest.mark.parametrize(
    ("version", "status", "said"),
    [
        (HANGS, "timed_out", "used up its CPU time (0.5 s)"),
        (STARVES, "failed", "version 3 failed: "),
        (GIVES_NAN, "nonfinite", "gave NaN or infinity in output y"),
    ],
)
def test_a_failure_is_measured_where_it_belongs(
    server: ServingProcess, load: Load, version: str, status: str, said: str
) -> None:
    """Exactly the rows that the model could not bear are its failures; all others are compared."""
    ledger = Ledger(server)
    rows = {one.prediction_id: one.rows for one in ledger.predictions()}
    hard = {one.prediction_id for one in ledger.predictions() if is_hard(one.inputs[0].data)}
    frames = [one for one in ledger.shadows() if one.version == version]
    assert len(hard) >= 4
    assert {one.prediction_id for one in frames} == rows.keys()
    assert {one.prediction_id for one in frames if one.status != "ok"} == hard
    assert {one.status for one in frames if one.prediction_id in hard} == {status}
    assert all(said in one.error for one in frames if one.prediction_id in hard)
    failed = sum(rows[prediction_id] for prediction_id in hard)
    books = ledger.books(ENDPOINT)[version]
    assert books.balanced and books.pending == 0
    assert (books.failed + books.timed_out, books.compared) == (failed, sum(rows.values()) - failed)
    assert ledger.compared(ENDPOINT, by=("version", "status"))[version, status] == failed


def is_hard(data: bytes) -> bool:
    """Whether a moody model cannot bear this input."""
    return bool((np.frombuffer(data, "<f4") == _TOO_MUCH).any())


def test_a_version_that_is_gone_fails_every_row(server: ServingProcess, load: Load) -> None:
    """Its file was deleted under the running gateway: all its rows failed, and say why."""
    ledger = Ledger(server)
    rows = sum(one.rows for one in ledger.predictions())
    books = ledger.books(ENDPOINT)[IS_GONE]
    assert (books.failed, books.journalled, books.pending) == (rows, rows, 0)
    frames = [one for one in ledger.shadows() if one.version == IS_GONE]
    assert {one.status for one in frames} == {"failed"}
    assert all("5/model.onnx cannot be read" in one.error for one in frames)


def test_a_crash_from_outside_is_no_failure_of_the_model(
    server: ServingProcess, load: Load
) -> None:
    """A calm version whose process was ended from outside has answered every row."""
    ledger = Ledger(server)
    rows = sum(one.rows for one in ledger.predictions())
    books = ledger.books(ENDPOINT)[IS_CALM]
    assert (books.compared, books.journalled) == (rows, rows)
