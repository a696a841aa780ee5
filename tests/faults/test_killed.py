"""Workers and Evaluator are killed and stopped under load; then the books are audited.

The killing is done once, because a host takes its time to start processes again; each test
below looks at another side of what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests import moody_models
from tests.faults.ledger import Ledger
from tests.load import Load
from tests.serving_process import PATIENCE_S, ServingProcess, eventually, start_server
from tests.synthetic_models import write_endpoint

ENDPOINT = "killed"
WORKERS, ROUNDS = 4, 5

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """Two challengers in shadow, and each of the three versions answers a part."""
    folder = tmp_path_factory.mktemp("killed")
    versions = {version: moody_models.calm() for version in "123"}
    for version, model in versions.items():
        model.doc_string = version  # one file would be one digest
    write_endpoint(folder / "models", ENDPOINT, versions, {"champion": "1"})
    found = start_server(folder / "gateway", folder / "models", workers=WORKERS)
    try:
        for command, *arguments in (
            ("challenge", "2"),
            ("challenge", "3"),
            ("split", "1=5000", "2=3000", "3=2000"),
        ):
            done = found.cli(command, ENDPOINT, *arguments, "--reason", "test")
            assert done.returncode == 0, done.stderr
        yield found
    finally:
        found.stop()


class Aftermath:
    """What the clients saw, who was killed, and what is left on disk."""

    def __init__(self, server: ServingProcess) -> None:
        self.ledger = Ledger(server)
        self.killed: list[int] = []
        self.evaluators: list[int] = []
        with Load(server.url, ENDPOINT) as load:
            for _ in range(ROUNDS):
                self.evaluators.append(kill_evaluator(server, self.ledger))
                self.killed += kill_all_workers(self.ledger, load)
            load.await_answers(100)
        self.load = load
        server.caught_up(ENDPOINT)
        self.predictions = self.ledger.predictions()
        self.rows = Counter({one.prediction_id: one.rows for one in self.predictions})


@pytest.fixture(scope="module")
def aftermath(server: ServingProcess) -> Aftermath:
    """Twenty workers and five Evaluators later."""
    return Aftermath(server)


def test_every_answer_is_in_the_journal_once(aftermath: Aftermath) -> None:
    """With all its rows, and the workers had accepted nothing that is not there."""
    assert len(set(aftermath.killed)) == WORKERS * ROUNDS
    answered = aftermath.load.answered
    assert len(answered) > WORKERS * ROUNDS * 25
    assert [one for one in answered if aftermath.rows[one.prediction_id] != one.rows] == []
    assert len(aftermath.rows) == len(aftermath.predictions)
    assert aftermath.ledger.accepted_rows() == aftermath.rows.total()
    assert not aftermath.load.refused


def test_nothing_but_torn_ends_is_damaged(server: ServingProcess, aftermath: Aftermath) -> None:
    """And `audition journal verify` says just that."""
    verified = server.cli("journal", "verify")
    assert (verified.returncode == 0) == (not aftermath.ledger.torn()), verified.stderr


def test_every_comparison_is_there_once(aftermath: Aftermath) -> None:
    """Whoever did not answer was run in shadow: each row once, as readers see it."""
    assert len(set(aftermath.evaluators)) == ROUNDS
    assert_complete(aftermath.ledger)


def test_a_run_is_doubled_only_by_design(aftermath: Aftermath) -> None:
    """What is there twice is the first of two runs of one prediction, once a kill and lane."""
    answered_by = {one.prediction_id: one.version for one in aftermath.predictions}
    written = Counter(
        (one.registration, one.prediction_id, one.version) for one in aftermath.ledger.shadows()
    )
    doubled = {key: times for key, times in written.items() if times > 1}
    for (registration, prediction_id, version), times in doubled.items():
        assert times == 2 and version == "1"
        assert answered_by[prediction_id] not in ("1", str(registration + 1))
    assert len(doubled) <= ROUNDS * 2


def test_deaths_are_no_errors_of_ours(server: ServingProcess, aftermath: Aftermath) -> None:
    """Nobody who was left behind complains in the log."""
    assert "Traceback" not in server.log_file.read_text(errors="replace")


def test_a_stopped_evaluator_holds_nobody_up(server: ServingProcess, aftermath: Aftermath) -> None:
    """While it is stopped the gateway is ready and answers; when it goes on nothing is lost."""
    evaluator = find_evaluator(server)
    evaluator.suspend()
    try:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as http:
            assert http.get("/readyz").status_code == 200
            assert http.get("/v2/health/ready").status_code == 200
        with Load(server.url, ENDPOINT) as load:
            load.await_answers(300)
        assert evaluator.status() == psutil.STATUS_STOPPED
    finally:
        evaluator.resume()
    server.caught_up(ENDPOINT)
    assert not load.refused and not load.broken
    after = aftermath.ledger.predictions()
    assert len(after) == len(aftermath.predictions) + len(load.answered)
    assert_complete(aftermath.ledger)


def kill_all_workers(ledger: Ledger, load: Load) -> list[int]:
    """Once all of them serve, one after the other while answers come; their process ids."""

    def serving() -> list[psutil.Process] | None:
        found = ledger.workers()
        return found if len(found) == WORKERS else None

    workers = eventually(serving)
    for worker in workers:
        load.await_answers(25)
        worker.kill()
        await_gone(worker)
    return [worker.pid for worker in workers]


def await_gone(process: psutil.Process) -> None:
    """Return when it holds nothing any more, whether or not its parent has noticed."""

    def is_gone() -> bool:
        try:
            return process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    eventually(is_gone)


def kill_evaluator(server: ServingProcess, ledger: Ledger) -> int:
    """Once it has written frames of its own, in the middle of it; its process id."""
    evaluator = find_evaluator(server)
    done = shadow_bytes(ledger)
    eventually(lambda: shadow_bytes(ledger) > done)
    evaluator.kill()
    await_gone(evaluator)
    return evaluator.pid


def find_evaluator(server: ServingProcess) -> psutil.Process:
    """The living process of the Evaluator."""

    def found() -> psutil.Process | None:
        for process in server.descendants():
            try:
                if "Evaluator" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    return eventually(found)


def shadow_bytes(ledger: Ledger) -> int:
    """How much the shadow lanes have written."""
    return sum(path.stat().st_size for path in (ledger.state / "shadow").rglob("*.seg"))


def assert_complete(ledger: Ledger) -> None:
    """Every journalled row of the registrations is compared exactly once, and the books agree."""
    predictions = ledger.predictions()
    rows = sum(one.rows for one in predictions)
    for version, books in ledger.books(ENDPOINT).items():
        assert books.balanced, (version, books)
        assert books.pending == 0, (version, books)
        assert books.journalled == books.compared == rows, (version, books)
    wanted = Counter({("1",): 2 * rows, ("2",): rows, ("3",): rows})
    for one in predictions:
        wanted[one.version,] -= 2 * one.rows if one.version == "1" else one.rows
    assert ledger.compared(ENDPOINT) == dict(wanted)
