"""The disk is full: nothing is answered without a record, nothing is half-written, and all goes
on when there is room again.

A limit on the size of files stands for the disk; to a process both look alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import moody_models
from tests.faults.ledger import Ledger
from tests.load import Load
from tests.serving_process import ServingProcess, eventually, start_server
from tests.synthetic_models import write_endpoint

ENDPOINT = "full"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """One worker, and one challenger in shadow."""
    folder = tmp_path_factory.mktemp("full")
    versions = {version: moody_models.calm() for version in "12"}
    for version, model in versions.items():
        model.doc_string = version  # one file would be one digest
    write_endpoint(folder / "models", ENDPOINT, versions, {"champion": "1"})
    found = start_server(folder / "gateway", folder / "models", workers=1)
    try:
        done = found.cli("challenge", ENDPOINT, "2", "--reason", "test")
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        found.stop()


@contextmanager
def no_room(process: psutil.Process, *, beyond_bytes: int) -> Iterator[None]:
    """No file of the process may grow beyond this."""
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (beyond_bytes, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


def test_a_worker_without_room_refuses_until_there_is_some(server: ServingProcess) -> None:
    """503 with the reason, not ready, and afterwards ready again; the journal is whole and
    holds what was answered and nothing else."""
    ledger = Ledger(server)
    (worker,) = ledger.workers()
    with server.http() as http, Load(server.url, ENDPOINT) as load:
        load.await_answers(50)
        assert not load.refused
        with no_room(worker, beyond_bytes=journal_bytes(server.state / "journal") + 10_000):
            eventually(lambda: load.refused.total() > 20)
            assert http.get("/readyz").status_code == 503
            assert http.get("/livez").status_code == 200
        eventually(lambda: http.get("/readyz").status_code == 200)
        load.await_answers(50)
    assert not load.broken
    assert {status for status, _ in load.refused} == {503}
    assert all(said.startswith("the journal cannot be written: ") for _, said in load.refused)
    rows = {one.prediction_id: one.rows for one in ledger.predictions()}
    assert rows == {one.prediction_id: one.rows for one in load.answered}
    assert ledger.accepted_rows() == sum(rows.values())
    verified = server.cli("journal", "verify")
    assert verified.returncode == 0, verified.stderr


def test_an_evaluator_without_room_catches_up_afterwards(server: ServingProcess) -> None:
    """Clients are answered all the time; what could not be written is done when it can be."""
    ledger = Ledger(server)
    pid = server.caught_up(ENDPOINT)["evaluator"]["pid"]
    evaluator = psutil.Process(pid)
    with Load(server.url, ENDPOINT) as load:
        before = journal_bytes(server.state / "shadow")
        with no_room(evaluator, beyond_bytes=before + 3000):
            load.await_answers(200)
            eventually(lambda: journal_bytes(server.state / "shadow") > before)
        load.await_answers(50)
    assert not load.refused and not load.broken
    server.caught_up(ENDPOINT)
    # The word of the first round that went well was given before its end.
    eventually(lambda: server.status(ENDPOINT)["evaluator"]["problem"] == "")
    assert server.status(ENDPOINT)["evaluator"]["pid"] == pid
    books = ledger.books(ENDPOINT)["2"]
    rows = sum(one.rows for one in ledger.predictions())
    assert (books.compared, books.journalled, books.pending) == (rows, rows, 0)
    assert ledger.compared(ENDPOINT) == {("2",): rows}
    assert ledger.torn() == []


def journal_bytes(root: Path) -> int:
    """The size of the largest journal below `root`."""
    return max(path.stat().st_size for path in root.rglob("*.seg"))
