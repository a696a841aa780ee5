"""The process of a runner, spoken to directly: it lives and dies with its parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateway.runtimes.messages import (
    LENGTH,
    BatchFailed,
    Loaded,
    LoadModel,
    RunBatch,
    decode_reply,
    framed,
)
from tests import models, moody_models
from tests.serving_process import PATIENCE_S, eventually
from tests.shadow.work import column

_COMMAND = [sys.executable, "-m", "gateway.runtimes.runner"]


def load(root: Path, content: bytes) -> bytes:
    facts = models.facts_in(root, "flights", "2", content)
    return framed(LoadModel(facts, str(root), 2 << 30))


def test_a_runner_obeys_the_list_of_providers(tmp_path: Path) -> None:
    """What is not there is refused with the reason, unless the list ends in cpu."""
    facts = models.facts_in(tmp_path, "flights", "2", models.linear())
    replies = []
    for providers in (("cuda",), ("cuda", "cpu")):
        request = framed(LoadModel(facts, str(tmp_path), 2 << 30, providers))
        done = subprocess.run(
            _COMMAND, input=request, capture_output=True, check=True, timeout=PATIENCE_S
        )
        replies.append(decode_reply.decode(done.stdout[LENGTH.size :]))
    refused, loaded = replies
    assert isinstance(refused, BatchFailed)
    assert "CUDAExecutionProvider" in refused.error
    assert isinstance(loaded, Loaded)


@pytest.mark.parametrize("cut", [0, 2, 4, 40])
def test_a_parent_that_ends_in_the_middle_is_no_error(tmp_path: Path, cut: int) -> None:
    """However much of a request has come, its end is the end, without a word."""
    request = load(tmp_path, models.linear())[:cut]
    done = subprocess.run(
        _COMMAND, input=request, capture_output=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_an_answer_that_nobody_reads_is_no_error(tmp_path: Path) -> None:
    """A parent that was killed while the model ran leaves no traceback in the log."""
    with subprocess.Popen(
        _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdout.close()
        child.stdin.write(load(tmp_path, models.linear()))
        child.stdin.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0


def test_a_running_model_dies_with_its_parent(tmp_path: Path) -> None:
    """A graph without end does not outlive the Evaluator, however that ends."""
    endless = load(tmp_path, moody_models.endless().SerializeToString())
    requests = tmp_path / "requests"
    requests.write_bytes(endless + framed(RunBatch([column(1001)])))
    program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({_COMMAND!r}, stdin=open({str(requests)!r}),"
        " stdout=subprocess.PIPE)\n"
        "loaded = child.stdout.read(1)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        # It has its model, so whatever it works from now on is the run.
        before_s = child.cpu_times().user
        eventually(lambda: child.cpu_times().user > before_s + 0.2)
        parent.kill()
    try:
        eventually(lambda: is_gone(child))
    finally:
        if not is_gone(child):
            child.kill()


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
