"""Running predictions in batches: the row that is to blame is found, and no other pays."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from gateway.core.binding import Source, VersionRules, bind
from gateway.core.records import TensorRecord
from gateway.core.routes import EndpointRules, VersionFacts
from gateway.shadow import running
from gateway.shadow.runner import Silence
from gateway.shadow.running import run_all
from tests import models, moody_models
from tests.archive.records import tensor
from tests.shadow.work import STUB, Stub, answers, column, real_runner, task


def three(*rows: tuple[float, float, float]) -> TensorRecord:
    """x[rows, 3]."""
    return tensor("x", np.array(rows, dtype=np.float32))


def test_neighbours_are_run_in_one_batch(tmp_path: Path) -> None:
    """Requests of one kind share a run, and each gets its own rows back, in order."""
    stub = Stub(tmp_path, "fine")
    tasks = [task(column(1)), task(column(2, 3)), task(column(4))]
    with stub.runner() as runner:
        found = run_all(runner, tasks)
    assert [answers(one) for one in found] == [[2], [4, 6], [8]]
    assert [(one.status, one.batch_rows, one.latency_us) for one in found] == [("ok", 4, 7)] * 3
    assert stub.starts == 1


def test_a_batch_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch grows beyond its rows, but a request is never cut."""
    monkeypatch.setattr(running, "MAX_BATCH_ROWS", 4)
    tasks = [task(column(*range(n))) for n in (2, 2, 1, 6, 1)]
    with Stub(tmp_path, "fine").runner() as runner:
        found = run_all(runner, tasks)
    assert [one.batch_rows for one in found] == [4, 4, 1, 6, 1]


def test_a_version_that_does_not_batch_is_run_one_by_one(tmp_path: Path) -> None:
    """Where the self-test of batching failed, every request is alone."""
    facts = msgspec.structs.replace(STUB, batches=False)
    with Stub(tmp_path, "fine").runner(facts=facts) as runner:
        found = run_all(runner, [task(column(n)) for n in range(3)])
    assert [one.batch_rows for one in found] == [1, 1, 1]


@pytest.mark.parametrize(
    ("mode", "said"), [("kill", "signal 9"), ("exit", "exit status 3"), ("nonsense", "no answer")]
)
def test_one_request_that_kills_the_process_costs_no_other(
    tmp_path: Path, mode: str, said: str
) -> None:
    """Its neighbours are answered; it itself is tried alone in three fresh processes."""
    stub = Stub(tmp_path, mode)
    with stub.runner() as runner:
        found = run_all(runner, [task(column(n)) for n in (1, 13, 2)])
    assert [one.status for one in found] == ["ok", "timed_out", "ok"]
    assert said in found[1].error and "version 2" in found[1].error
    assert [answers(found[0]), answers(found[2])] == [[2], [4]]
    # The batch in the first; the first alone and the first attempt in the second; two more
    # attempts; the last alone.
    assert stub.starts == 5


def test_a_request_that_uses_up_its_cpu_time_has_timed_out(tmp_path: Path) -> None:
    """Spent CPU time is the model's doing, so once is enough."""
    stub = Stub(tmp_path, "spin")
    with stub.runner(cpu_limit_s=0.5) as runner:
        found = run_all(runner, [task(column(1)), task(column(13))])
    assert [one.status for one in found] == ["ok", "timed_out"]
    assert "used up its CPU time (0.5 s)" in found[1].error
    assert stub.starts == 2  # the batch; then both alone, one after the other


def test_silence_without_work_is_asked_three_times(tmp_path: Path) -> None:
    """A process that neither works nor answers may be the machine's fault: it gets three."""
    stub = Stub(tmp_path, "sleep")
    with stub.runner(cpu_limit_s=0.05) as runner:
        (found,) = run_all(runner, [task(column(13))])
    assert found.status == "timed_out"
    assert "gave no answer in 1.5 s" in found.error
    assert stub.starts == 3


def test_a_process_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """A question larger than the pipe is given up like any other that stays unanswered."""
    stub = Stub(tmp_path, "fine")
    large = column(*range(14, 100_000))
    with stub.runner() as runner:
        run_all(runner, [task(column(1))])
        assert runner._child is not None
        runner._child._process.send_signal(signal.SIGSTOP)
        runner._cpu_limit_s = 0.05
        assert isinstance(runner.run([large]), Silence)
        # Whoever answers next gets the usual time for it: a busy machine is no silence.
        runner._cpu_limit_s = 10.0
        found = run_all(runner, [task(large)])
    assert [one.status for one in found] == ["ok"]
    assert stub.starts == 2


def test_a_batch_with_the_wrong_rows_is_run_again_alone(tmp_path: Path) -> None:
    """Where a batch's answer cannot be taken apart, nobody's answer is made up."""
    with Stub(tmp_path, "short").runner() as runner:
        found = run_all(runner, [task(column(1)), task(column(13))])
    assert [(answers(one), one.batch_rows) for one in found] == [([2], 1), ([26], 1)]


def test_a_request_without_an_input_is_refused(tmp_path: Path) -> None:
    """What it lacks is named, it is no failure, and no process is asked."""
    stub = Stub(tmp_path, "fine")
    other = TensorRecord("other", "FP32", (1, 1), bytes(4))
    with stub.runner() as runner:
        found = run_all(runner, [task(other), task(other)])
    assert [one.status for one in found] == ["refused", "refused"]
    assert found[0].error == "the request does not carry x"
    assert stub.starts == 0


def test_a_model_that_cannot_be_loaded_is_not_started_for_every_row(tmp_path: Path) -> None:
    """Every row has failed, with the reason, and the file was asked for once."""
    stub = Stub(tmp_path, "refuse")
    with stub.runner() as runner:
        found = run_all(runner, [task(column(n)) for n in range(20)])
    assert {(one.status, one.error) for one in found} == {("failed", "no such file")}
    assert stub.starts == 1


def model(root: Path, content: bytes) -> VersionFacts:
    return models.facts_in(root, "flights", "2", content)


def test_one_row_that_makes_infinity_costs_no_other(tmp_path: Path) -> None:
    """The model's own process says which request gave no number."""
    with real_runner(tmp_path, model(tmp_path, models.inverse())) as runner:
        found = run_all(runner, [task(column(n)) for n in (2, 0, 4)])
    assert [one.status for one in found] == ["ok", "nonfinite", "ok"]
    assert "NaN or infinity in output y" in found[1].error
    assert [answers(found[0]), answers(found[2])] == [[0.5], [0.25]]


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (moody_models.endless, "timed_out"),
        (moody_models.hungry, "failed"),
        (moody_models.nonfinite, "nonfinite"),
    ],
)  # fmt: skip
def test_a_hostile_graph_harms_its_own_request_only(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], status: str
) -> None:
    """One that never ends, takes all memory or gives NaN for one request: its neighbours in
    the same batch are answered, and so is what comes after it."""
    facts = model(tmp_path, make().SerializeToString())
    with real_runner(tmp_path, facts, cpu_limit_s=0.5) as runner:
        found = run_all(runner, [task(column(n)) for n in (0, 1001, 1, 2)])
        after = run_all(runner, [task(column(0))])
    assert [one.status for one in found] == ["ok", status, "ok", "ok"]
    assert answers(found[0]) == answers(after[0]) == [0.5]


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_file_that_is_not_the_registered_one_fails(tmp_path: Path, harm: str) -> None:
    """A version is its SHA-256: without that very file nothing is run."""
    facts = model(tmp_path, models.linear())
    path = tmp_path / facts.path
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(models.linear((3.0, 2.0, 1.0)))
    with real_runner(tmp_path, facts) as runner:
        (found,) = run_all(runner, [task(three((1, 1, 1)))])
    assert found.status == "failed"
    assert ("cannot be read" if harm == "gone" else "immutable") in found.error


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64", "BOOL", "BYTES"])
def test_a_runner_gives_back_what_the_model_makes(tmp_path: Path, datatype: str) -> None:
    """Bits go to the child and back as they are."""
    facts = model(tmp_path, models.identity(datatype))
    raw = b"\1\0\0\0a\0\0\0\0" if datatype == "BYTES" else bytes([1, 0] * 8)
    size = {"FP32": 4, "FP64": 2, "INT64": 2, "BOOL": 16, "BYTES": 2}[datatype]
    sent = TensorRecord("x", datatype, (size // 2, 2), raw)
    with real_runner(tmp_path, facts) as runner:
        found = run_all(runner, [task(sent), task(sent)])
    expected = TensorRecord("y", datatype, sent.shape, raw)
    assert [one.outputs for one in found] == [[expected], [expected]]


def test_a_mapped_version_runs_on_the_same_requests(tmp_path: Path) -> None:
    """Its process is handed what the client sent, and gives back what clients would see."""
    facts = models.facts_in(tmp_path, "demo", "2", models.linear())
    section = VersionRules(
        inputs={"x": (Source("sent"),)}, outputs={"score": Source("y", None, lossy=True)}
    )
    mapped = bind(facts, EndpointRules(outputs={"score": "FP64"}), section)
    sent = tensor("sent", np.array([[1, 1, 1]], np.float32))
    with real_runner(tmp_path, mapped) as runner:
        one, two = run_all(runner, [task(sent), task(sent)])
    assert (one.status, answers(one), one.outputs[0].name) == ("ok", [6.0], "score")
    assert one.outputs[0].datatype == "FP64" and two.outputs == one.outputs
