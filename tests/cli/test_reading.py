"""Commands that only look: what they show, write and exit with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from gateway.ports import EvaluatorReport
from tests.cli.server import TERMINAL, Gateway, Run, judge
from tests.serving_process import PATIENCE_S


def test_status_says_why_to_wait(here: Run, gateway: Gateway) -> None:
    """Verdict, evidence against its threshold, counts, lag, reasons; no terminal codes."""
    assert "has not reported yet" in here("status").out
    here("challenge", "demo", "2")
    assert "2: nothing has been judged yet" in here("status", "demo").out
    judge(gateway, "WAIT")
    books = {"compared": 70, "journalled": 75}
    said = {"endpoints": {"demo": {"challengers": {"2": {"behind_bytes": 17, "books": books}}}}}
    gateway.store.report_evaluator(EvaluatorReport(1, 7, msgspec.Raw(msgspec.json.encode(said))))
    shown = here("status").out
    for words in ("WAIT", "+0.0312", "148 / 32.9", "40/40", "70/75", "17 bytes"):
        assert words in shown
    assert "superiority: shown ·[31m" in shown
    assert TERMINAL not in shown


def test_json_is_what_the_gateway_said(here: Run, gateway: Gateway) -> None:
    """One document on standard output for each command that shows something."""
    here("challenge", "demo", "2")
    assert here("status", "--json").json()["endpoints"][0]["phase"] == "shadow"
    assert here("status", "demo", "--json").json()["endpoint"] == "demo"
    assert here("evidence", "demo", "--json").json()["registrations"][0]["number"] == 1
    assert here("decisions", "demo", "--json").json()["faults"] == []
    assert here("models", "list", "demo", "--json").json()["not_added"] == ["3"]
    assert here("keys", "list", "--json").json()["keys"][0]["name"] == "key-admin"


def test_evidence_shows_each_gate_with_its_n(here: Run, gateway: Gateway) -> None:
    """Figure, threshold and n of every gate; a registration without evidence waits."""
    assert "nobody has challenged yet" in here("evidence", "demo").out
    here("challenge", "demo", "2")
    assert "WAIT: nothing has been judged yet" in here("evidence", "demo").out
    judge(gateway, "PROMOTE")
    shown = here("evidence", "demo").out
    for words in ("PROMOTE", "superiority", "passed", "5", "3.49", "ln E", "40"):
        assert words in shown


def test_a_forged_decision_log_exits_1(here: Run, gateway: Gateway) -> None:
    """The faults are named."""
    with gateway.store._writing() as connection:
        connection.exec_driver_sql("UPDATE epochs SET reason = 'forged'")
    ended = here("decisions", "demo")
    assert ended.code == 1 and "epoch 1 was edited" in ended.err


def test_an_export_appears_whole(here: Run, gateway: Gateway, tmp_path: Path) -> None:
    """Or not at all, with nothing left beside it."""
    target = tmp_path / "rows.csv"
    ended = here("export", "demo", "--format", "csv", "--output", str(target), "--json")
    assert ended.json() == {"output": str(target), "format": "csv", "bytes": 3000}
    assert target.read_bytes() == b"csv" * 1000
    nobody = tmp_path / "nobody.csv"
    refused = here("--key", "x", "export", "demo", "--format", "csv", "--output", str(nobody))
    assert refused.code == 1 and not nobody.exists()
    unwritable = here("export", "demo", "--output", str(tmp_path / "no" / "x"))
    assert unwritable.code == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_watching_goes_on_until_interrupted(gateway: Gateway) -> None:
    """One JSON line each time, at once; Ctrl-C is no failure."""
    # A shell lets what it starts in the background ignore Ctrl-C, and so do its children.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gateway.cli import main; main()"
    )
    command = [sys.executable, "-c", program]
    options = ["--url", f"http://127.0.0.1:{gateway.port}", "--key", gateway.tokens["view"]]
    command += [*options, "status", "demo", "--watch", "--json"]
    gateway.turnstile = turnstile = threading.Semaphore(0)
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=plain) as process:
        assert process.stdout is not None
        try:
            for _ in range(3):  # nobody is asked again before the line of before has come
                turnstile.release()
                assert json.loads(process.stdout.readline())["epoch"] == 1
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            turnstile.release(9)
