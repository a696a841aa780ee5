"""The command line against a real server: what it sends, shows and exits with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from gateway.archive.label_index import LabelIndex
from gateway.cli import main
from gateway.cli.local import is_loopback
from gateway.core.access import require_right
from gateway.journal.reader import JournalTail
from gateway.journal.writer import JournalWriter
from gateway.judge.operations import Operations
from gateway.ports import EvaluatorReport, WorkerReport
from gateway.protocols.admin_http import GuardedRoute, build_admin
from gateway.protocols.admin_routes import Limits
from gateway.protocols.authentication import Authenticator
from gateway.protocols.export_http import EXPORT
from gateway.protocols.labels_http import LabelsApp
from gateway.stores.sql import SqlStore
from tests.rollouts import Shelf, facts, solo, store_at
from tests.serving_process import PATIENCE_S
from tests.verdicts import checkpoint_of

WORKER = "a" * 12
TERMINAL = "\x1b"


class Gateway:
    """Operations and labels behind a real socket, with a key of each role."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.store: SqlStore = store_at(self.state)
        self.store.create(solo(versions=("1",)), actor="setup", reason="", at_us=1)
        digests = [facts(version).digest for version in "123"]
        self.store.report_worker(WorkerReport(WORKER, 1, "h", 1, {"demo": 99}, {"demo": digests}))
        self.live = {WORKER}
        #: Where there is one, each request of an operator waits until a test lets it in.
        self.turnstile: threading.Semaphore | None = None
        self.shelf = Shelf(*(facts(version) for version in "123"))
        self.operations = Operations(
            self.store,
            clock_us=lambda: 1_700_000_000_000_000,
            live_workers=lambda: self.live,
            repository=self.shelf,
            acknowledge_within_s=0,
        )
        self.tokens = {
            role: self.operations.create_key(name=f"key-{role}", role=role).token
            for role in ("label", "view", "admin")
        }
        self._authenticator = Authenticator(self.store)
        self._admin = build_admin(
            self.operations,
            self._authenticator.identify,
            [GuardedRoute(EXPORT, _export)],
            limits=Limits(upload_folder=folder),
        )
        self._server = uvicorn.Server(
            uvicorn.Config(self._app, port=0, interface="asgi3", ws="none", log_level="critical")
        )
        self._thread = threading.Thread(target=self._server.run)

    def start(self) -> None:
        """Serve until `stop`; labels go to a journal of the state folder."""
        self._thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while not self._server.started:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        """End the server and close what it held."""
        self._server.should_exit = True
        self._thread.join()
        self.store.close()

    def rollout(self) -> Any:
        """The rollout now."""
        return self.store.rollout("demo")

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["path"] == "/v1/labels":
            await self._labels(scope, receive, send)
        else:
            if self.turnstile is not None:
                await asyncio.to_thread(self.turnstile.acquire, timeout=PATIENCE_S)
            await self._admin(scope, receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        journal = JournalWriter(self.state / "journal", writer_id=WORKER)
        self._labels = LabelsApp(
            journal=journal,
            index=LabelIndex(self.state / "labels.sqlite"),
            authorise=self._authorise,
            admit_time=lambda _at_us: None,
            max_body_bytes=1 << 24,
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        journal.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _authorise(self, headers: Any) -> str:
        header = headers.get(b"authorization", b"").decode()
        key = await asyncio.to_thread(self._authenticator.identify, header)
        require_right(key, "label", endpoint=None)
        return key.name


async def _export(request: Request) -> Response:
    return Response(request.query_params["format"].encode() * 1000)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that answers."""
    made = Gateway(tmp_path)
    made.start()
    yield made
    made.stop()


class Ended(msgspec.Struct):
    """How a command line ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output, which must be one JSON document."""
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def audition(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command without a gateway in its environment."""
    for name in ("AUDITION_URL", "AUDITION_KEY", "AUDITION_STATE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["audition", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def here(audition: Run, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command with the gateway's address and an admin key in its environment."""
    monkeypatch.setenv("AUDITION_URL", f"http://127.0.0.1:{gateway.port}")
    monkeypatch.setenv("AUDITION_KEY", gateway.tokens["admin"])
    return audition


def _judge(gateway: Gateway, kind: str) -> None:
    gate = {
        "name": "superiority",
        "outcome": "passed",
        "figure": 5.0,
        "threshold": 3.49,
        "unit": "ln E",
        "n": 40,
        "reason": "superiority: shown",
    }
    gateway.store.report_evaluator(EvaluatorReport(1_700_000_000_000_000, 1, msgspec.Raw(b"{}")))
    gateway.store.add_checkpoint(
        checkpoint_of(
            gateway.store.registrations("demo")[0],
            kind,
            gates=[gate],
            reasons=["superiority: shown \x1b[31m"],
            estimate=0.0312,
        )
    )


def test_the_whole_story_by_command_line(here: Run, gateway: Gateway) -> None:
    """Challenge, shadow, split, promotion and rollback, each exits 0 and is done."""
    first = here("challenge", "demo", "2", "--sample", "50%", "--reason", "trees")
    assert first.code == 0, first.err
    assert "registration 1: version 2 must reach E ≥ 32.9" in first.out
    assert gateway.rollout().challengers["2"].probability_bp == 5000
    assert here("shadow", "demo", "2", "--sample", "12.5%").code == 0
    assert gateway.rollout().challengers["2"].probability_bp == 1250
    assert here("shadow", "demo", "2", "--off").code == 0
    assert gateway.rollout().challengers["2"].probability_bp == 0
    assert here("split", "demo", "--percent", "1=90", "2=10").code == 0
    assert gateway.rollout().split == {"1": 9000, "2": 1000}
    assert here("split", "demo", "1=9999", "2=1").code == 0
    assert gateway.rollout().split == {"1": 9999, "2": 1}
    _judge(gateway, "PROMOTE")
    assert here("promote", "demo", "2").code == 0
    assert here("rollback", "demo", "--reason", "slow").code == 0
    assert here("challenge", "demo", "3").code == 0
    assert here("withdraw", "demo", "3", "--reason", "no").code == 0
    log = here("decisions", "demo")
    assert log.code == 0
    for words in (
        "promote 2",
        "[1/1: PROMOTE, E = 148, n = 40]",
        "rollback",
        "split 1=99.99% 2=0.01%",
        "key-admin",
        "slow",
        "trees",
    ):
        assert words in log.out


def test_a_refusal_exits_1_with_its_reason(here: Run, gateway: Gateway) -> None:
    """On standard error, and nothing on standard output."""
    here("challenge", "demo", "2")
    ended = here("promote", "demo", "2")
    assert (ended.code, ended.out) == (1, "")
    assert "verdict on registration 1 is nothing yet" in ended.err
    assert gateway.rollout().champion == "1"
    assert "no endpoint other" in here("status", "other").err


def test_force_promotes_with_a_reason_only(here: Run, gateway: Gateway) -> None:
    """Without one it is a mistake of usage; a rollback likewise."""
    here("challenge", "demo", "2")
    assert here("promote", "demo", "2", "--force").code == 2
    assert here("rollback", "demo").code == 2
    assert here("promote", "demo", "2", "--force", "--reason", "a drill").code == 0
    assert gateway.rollout().champion == "2"


def test_an_expected_epoch_is_kept_to(here: Run, gateway: Gateway) -> None:
    """Who decided on another epoch is told the one there is."""
    ended = here("challenge", "demo", "2", "--expected-epoch", "7")
    assert ended.code == 1 and "is at epoch 1, not 7" in ended.err
    assert here("challenge", "demo", "2", "--expected-epoch", "1").code == 0


def test_a_laggard_is_named_on_standard_error(here: Run, gateway: Gateway) -> None:
    """The change is committed all the same."""
    gateway.live = {WORKER, "b" * 12}
    ended = here("challenge", "demo", "2", "--json")
    assert ended.code == 0 and ended.json()["lagging"] == ["b" * 12]
    assert "not served yet by worker " + "b" * 12 in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("split", "demo", "1=9000"),
        ("split", "demo", "1:9000", "2:1000"),
        ("split", "demo", "=10000"),
        ("split", "demo", "1=5000", "1=5000"),
        ("split", "demo", "1=nan", "2=1000"),
        ("split", "demo", "--percent", "1=99.999", "2=0.001"),
        ("split", "demo", "1=-1", "2=10001"),
        ("split", "demo"),
        ("shadow", "demo", "2"),
        ("shadow", "demo", "2", "--sample", "5%", "--off"),
        ("shadow", "demo", "2", "--sample", "101%"),
        ("keys", "create", "x", "--role", "root"),
        ("export", "demo", "--format", "xml", "--output", "x"),
        ("labels", "import", "no-such-file"),
        ("journal", "stats", "--state", "no-such-folder"),
        ("nonsense",),
        ("status", "--nonsense"),
    ],
)
def test_a_command_that_makes_no_sense_exits_2(audition: Run, arguments: tuple[str, ...]) -> None:
    """Before anything is sent: there is no gateway to ask."""
    ended = audition(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Error" in ended.err


def test_no_gateway_is_said_with_what_to_do(audition: Run) -> None:
    """Exit code 1 and the address that was tried."""
    ended = audition("--url", "http://127.0.0.1:9", "status")
    assert ended.code == 1
    assert "http://127.0.0.1:9" in ended.err and "AUDITION_URL" in ended.err
    assert audition("--url", "nonsense", "status").code == 1


def test_a_key_that_is_missing_or_too_small_is_said(here: Run, gateway: Gateway) -> None:
    """401 says how to set one, 403 which role is needed."""
    missing = here("--key", "", "status")
    assert missing.code == 1 and "AUDITION_KEY" in missing.err
    small = here("--key", gateway.tokens["view"], "challenge", "demo", "2")
    assert small.code == 1 and "use a key of role operate" in small.err
    assert here("--key", gateway.tokens["view"], "status").code == 0


def test_status_says_why_to_wait(here: Run, gateway: Gateway) -> None:
    """Verdict, evidence against its threshold, counts, lag, reasons; no terminal codes."""
    assert "has not reported yet" in here("status").out
    here("challenge", "demo", "2")
    assert "2: nothing has been judged yet" in here("status", "demo").out
    _judge(gateway, "WAIT")
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
    _judge(gateway, "PROMOTE")
    shown = here("evidence", "demo").out
    for words in ("PROMOTE", "superiority", "passed", "5", "3.49", "ln E", "40"):
        assert words in shown


def test_a_forged_decision_log_exits_1(here: Run, gateway: Gateway) -> None:
    """The faults are named."""
    with gateway.store._writing() as connection:
        connection.exec_driver_sql("UPDATE epochs SET reason = 'forged'")
    ended = here("decisions", "demo")
    assert ended.code == 1 and "epoch 1 was edited" in ended.err


def test_a_model_file_is_added(here: Run, gateway: Gateway, tmp_path: Path) -> None:
    """It is listed afterwards, idle."""
    del gateway.shelf.files["2"]
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 3_000_000)
    assert here("models", "add", "demo", str(file), "--version", "2").code == 0
    listed = here("models", "list", "demo").out
    assert "champion" in listed and "not added" in listed
    again = here("models", "add", "demo", str(file), "--version", "2")
    assert again.code == 1 and "immutable" in again.err


def test_a_key_is_printed_alone_and_works(here: Run, gateway: Gateway) -> None:
    """`AUDITION_KEY=$(audition keys create …)` must be enough."""
    ended = here("keys", "create", "viewer", "--role", "view", "--endpoint", "demo")
    assert ended.code == 0
    assert "only time" in ended.err
    assert here("--key", ended.out.strip(), "status", "demo").code == 0
    listed = here("keys", "list").out
    assert "viewer" in listed and "demo" in listed and ended.out.strip() not in listed


def _label(number: int, label: object = 1) -> str:
    return json.dumps({"prediction_id": f"{number:032x}", "label": label})


def test_labels_are_imported_and_counted(
    here: Run, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice is once; they are in the journal; an admin key may not."""
    file = tmp_path / "labels.ndjson"
    file.write_text("\n".join(_label(number) for number in range(25)) + "\n\n")
    assert here("labels", "import", str(file)).code == 1
    monkeypatch.setenv("AUDITION_KEY", gateway.tokens["label"])
    first = here("labels", "import", str(file))
    assert (first.code, first.out) == (0, "accepted 25, duplicate 0, invalid 0\n"), first.err
    again = here("labels", "import", str(file), "--json").json()
    assert again == {"accepted": 0, "duplicate": 25, "invalid": 0}
    records = [entry.record for entry in JournalTail(gateway.state / "journal" / WORKER).drain()]
    assert sum(len(record.rows) for record in records) == 25  # type: ignore[union-attr]


def test_an_invalid_label_is_named_by_its_line(here: Run, gateway: Gateway, tmp_path: Path) -> None:
    """The others are kept, and the exit code is 1."""
    file = tmp_path / "labels.ndjson"
    file.write_text("\n".join([_label(1), "", '{"prediction_id": "x", "label": 1}', _label(2)]))
    ended = here("--key", gateway.tokens["label"], "labels", "import", str(file))
    assert (ended.code, ended.out) == (1, "accepted 2, duplicate 0, invalid 1\n")
    assert "line 3: prediction_id" in ended.err


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


def test_journals_are_counted_and_verified(
    here: Run, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged journal exits 1 and is named."""
    file = tmp_path / "labels.ndjson"
    file.write_text("\n".join(_label(number) for number in range(5)))
    here("--key", gateway.tokens["label"], "labels", "import", str(file))
    monkeypatch.setenv("AUDITION_STATE", str(gateway.state))
    counted = here("journal", "stats")
    assert counted.code == 0 and WORKER in counted.out and "LabelsRecord 1" in counted.out
    assert here("journal", "verify").out == "1 journals read\n"
    file.write_text("\n".join(_label(number, label=0) for number in range(5)))
    here("--key", gateway.tokens["label"], "labels", "import", str(file))
    (segment,) = (gateway.state / "journal" / WORKER).glob("*.seg")
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 3] ^= 0xFF
    segment.write_bytes(bytes(damaged))
    gateway._server.should_exit = True
    gateway._thread.join()
    ended = here("journal", "verify", "--state", str(gateway.state), "--json")
    assert ended.code == 1 and ended.json()["problems"]
    assert WORKER in ended.err


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


COMMANDS = [
    (),
    ("serve",),
    ("demo",),
    ("status",),
    ("split",),
    ("shadow",),
    ("challenge",),
    ("withdraw",),
    ("promote",),
    ("rollback",),
    ("evidence",),
    ("decisions",),
    ("export",),
    ("models", "add"),
    ("models", "list"),
    ("models", "inspect"),
    ("labels", "import"),
    ("keys", "create"),
    ("keys", "list"),
    ("journal", "stats"),
    ("journal", "verify"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(audition: Run, command: tuple[str, ...]) -> None:
    """The example can be copied; nothing is coloured off a terminal."""
    ended = audition(*command, "--help")
    assert ended.code == 0 and TERMINAL not in ended.out
    words = " ".join(ended.out.split())
    usage = f"audition {' '.join(command)}".strip()
    assert words.count(usage) >= 2  # the usage line, and an example that can be copied


def test_help_loads_neither_server_nor_client() -> None:
    """Help is shown before a human notices: the heavy imports wait for their command."""
    script = (
        "import sys\nfrom gateway.cli import main\nsys.argv = ['audition', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'httpx', 'bentoml', 'onnxruntime', 'sqlalchemy', 'duckdb', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stderr.strip() == "[]"


def test_only_this_machine_counts_as_loopback() -> None:
    """Anything else is warned of at the start."""
    hosts = ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "10.1.1.1", "db")
    assert [is_loopback(host) for host in hosts] == [True] * 4 + [False] * 4
