"""The composition root: the only file that names concrete adapters and puts them together.

Three things are put together here: the state before anything runs (`prepare`), a worker's
application (`WorkerApp`), and the Evaluator's loop (`EvaluatorHost`).
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from gateway.archive.label_index import LabelIndex
from gateway.archive.writer import ArchiveWriter
from gateway.core.access import Right, require_right
from gateway.core.names import WRITER_ID_DIGITS
from gateway.core.rollout import AddVersion, Configure, first_rollout, step
from gateway.core.routes import Rollout, VersionFacts, shared_inputs
from gateway.errors import Conflict, InvalidSetting, Unauthenticated
from gateway.evaluator import Evaluator, lock_state
from gateway.journal.reader import live_writers
from gateway.journal.writer import JournalWriter
from gateway.judge.access_keys import create_key
from gateway.judge.archive_judge import ArchiveJudge
from gateway.judge.operations import Operations
from gateway.ports import ControlStore, Key, Registration
from gateway.protocols.admin_http import build_admin
from gateway.protocols.admin_routes import Limits
from gateway.protocols.app import Routed
from gateway.protocols.asgi import Application, Headers
from gateway.protocols.authentication import Authenticator
from gateway.protocols.labels_http import LabelsApp
from gateway.protocols.oip_http import InferenceApp
from gateway.runtimes.onnx import OnnxModel
from gateway.runtimes.repository import ModelRepository
from gateway.serving.clock import EventClock, read_clock
from gateway.serving.dataplane import DataPlane
from gateway.serving.routes import Routes
from gateway.serving.runs import Runs
from gateway.serving.trace import Tracer
from gateway.serving.watch import Watch
from gateway.settings import EndpointFile, Settings, load_endpoint_file
from gateway.shadow.cursors import Cursor, Cursors
from gateway.shadow.lane import Lane
from gateway.shadow.runner import Runner
from gateway.stores.sql import open_store
from gateway.telemetry.otel import span_sink
from gateway.telemetry.prometheus import MetricsSink

_RUNNER_COMMAND = (sys.executable, "-m", "gateway.runtimes.runner")


def prepare(settings: Settings) -> None:
    """Make the state folder, and bring the store up to the model repository.

    Run once before any process of the server. Raises what is wrong with a setting, an
    endpoint file or a model, before anything is served.
    """
    os.umask(0o077)
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in ("journal", "shadow", "archive", "clock", "uploads"):
        (settings.state / folder).mkdir(exist_ok=True, mode=0o700)
    store = open_store(settings.store_url)
    _ensure_admin_key(store, settings)
    repository = ModelRepository(settings.models)
    for endpoint in repository.endpoints():
        path = repository.endpoint_file(endpoint)
        file = load_endpoint_file(path) if path.exists() else EndpointFile()
        _bring_up(store, repository, endpoint, file)


def _ensure_admin_key(store: ControlStore, settings: Settings) -> None:
    if any(key.role == "admin" for key in store.keys()):
        return
    new = create_key(
        store,
        name="admin",
        role="admin",
        at_us=_now_us(),
        token=settings.admin_key or None,
    )
    if not settings.admin_key:
        print(  # noqa: T201: shown once, and only here
            f"The admin key, shown this once: {new.token}\n"
            "Keep it and set AUDITION_KEY to it for the command line.",
            file=sys.stderr,
            flush=True,
        )


def _bring_up(
    store: ControlStore, repository: ModelRepository, endpoint: str, file: EndpointFile
) -> None:
    versions = repository.versions(endpoint)
    if endpoint not in store.endpoints():
        champion = file.champion or (versions[0] if len(versions) == 1 else None)
        if champion is None:
            raise InvalidSetting(
                f"{repository.endpoint_file(endpoint)}: champion is missing, and there are "
                f"several versions ({', '.join(versions)}); say which one answers"
            )
        rollout = first_rollout(
            endpoint,
            champion=repository.facts(endpoint, champion),
            rules=file.rules(),
            salt=secrets.token_hex(16),
        )
        with suppress(Conflict):
            store.create(rollout, actor="audition", reason="first served", at_us=_now_us())
    rollout = store.rollout(endpoint)
    if rollout.rules != file.rules():
        _commit(store, rollout, Configure(file.rules()), "the endpoint file changed")
    for version in versions:
        rollout = store.rollout(endpoint)
        if version not in rollout.versions:
            facts = repository.facts(endpoint, version)
            _commit(store, rollout, AddVersion(facts), "found in the model repository")


def _commit(
    store: ControlStore, rollout: Rollout, command: Configure | AddVersion, reason: str
) -> None:
    after = step(rollout, command)
    shared_inputs(after.versions[version] for version in after.serving())
    store.commit(after, command=command, actor="audition", reason=reason, at_us=_now_us())


class WorkerApp:
    """The ASGI application of one worker: ours in front, the host's own behind it."""

    def __init__(self, settings: Settings, host_app: Application) -> None:
        self._host_app = host_app
        self._state = settings.state
        self._store = open_store(settings.store_url)
        self._journal = JournalWriter(settings.state / "journal", writer_id=_writer_id())
        self._routes = Routes()
        self._clocks: dict[str, EventClock] = {}
        repository = ModelRepository(settings.models)
        authenticator = Authenticator(self._store)
        self._watch = Watch(
            store=self._store,
            routes=self._routes,
            load=lambda facts: _load(repository, facts),
            writer_id=self._journal.writer_id,
            pid=os.getpid(),
            host=socket.gethostname(),
        )
        self._dataplane = DataPlane(
            journal=self._journal,
            runs=Runs(threads=os.cpu_count() or 1, waiting=settings.max_waiting_runs),
            clock_of=self._clock_of,
            sinks=(MetricsSink(),),
            serve_unrecorded=settings.journal_on_full == "serve_unrecorded",
        )
        access = _Access(authenticator, open_inference=settings.open_inference)
        self._app = Routed(
            inference=InferenceApp(
                routes=self._routes,
                dataplane=self._dataplane,
                tracer=Tracer(ratio=settings.trace_ratio, seed=secrets.randbits(64)),
                authorise=access.inference,
                is_ready=self.is_ready,
                max_body_bytes=settings.max_body_bytes,
            ),
            labels=LabelsApp(
                journal=self._journal,
                index=LabelIndex(settings.state / "labels.sqlite"),
                authorise=access.labels,
                admit_time=self._admit_label_time,
                max_body_bytes=settings.max_body_bytes,
            ),
            admin=build_admin(
                self._operations(repository),
                authenticator.identify,
                limits=Limits(
                    upload_folder=settings.state / "uploads", model_bytes=settings.max_model_bytes
                ),
            ),
            metrics=host_app,
            authorise_metrics=lambda headers: access.inference(headers, "infer", ""),
            is_ready=self.is_ready,
        )
        self._following: asyncio.Task[None] | None = None

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        """One request, or the lifespan of the worker."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        self._start()
        try:
            await self._host_app(scope, receive, send)
        finally:
            self._stop()

    def is_ready(self) -> bool:
        """Routes loaded and journal writable; never the Evaluator's or the store's state."""
        return bool(self._routes.tables) and not self._journal.problem

    def _start(self) -> None:
        self._watch.step()
        self._following = asyncio.get_running_loop().create_task(self._watch.run())
        # The heap of imports is large and lives for ever: a full collection over it was the
        # p99 of 200 ms that this host is known for.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 100)

    def _stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
        self._journal.close()

    def _clock_of(self, endpoint: str) -> EventClock:
        clock = self._clocks.get(endpoint)
        if clock is None:
            rules = self._routes.tables[endpoint].rules
            clock = self._clocks[endpoint] = EventClock(
                self._state / "clock" / endpoint,
                writer_id=self._journal.writer_id,
                tolerance_us=rules.clock_tolerance_s * 1_000_000,
            )
        return clock

    def _admit_label_time(self, observed_at_us: int) -> None:
        """A label names no endpoint, so any endpoint's clock may admit its time."""
        refusal: Exception | None = None
        for endpoint, table in self._routes.tables.items():
            if table.rules.event_time != "client":
                return
            try:
                self._clock_of(endpoint).admit("observed_at", observed_at_us)
            except Exception as error:  # noqa: BLE001: kept, and raised if nobody admits it
                refusal = error
            else:
                return
        if refusal is not None:
            raise refusal

    def _operations(self, repository: ModelRepository) -> Operations:
        return Operations(
            self._store,
            clock_us=_now_us,
            live_workers=lambda: live_writers(self._state / "journal"),
            repository=repository,
        )


class _Access:
    """Who may use the data plane."""

    def __init__(self, authenticator: Authenticator, *, open_inference: bool) -> None:
        self._authenticator = authenticator
        self._open = open_inference

    def inference(self, headers: Headers, right: Right, endpoint: str) -> str:
        """The client's name; empty for the anonymous client of an open gateway."""
        authorization = headers.get(b"authorization")
        if authorization is None and self._open:
            if right != "infer":
                raise Unauthenticated("pinning a version needs a key; see `audition keys create`")
            return ""
        key = self._authenticator.identify(_text(authorization))
        require_right(key, right, endpoint=endpoint or None)
        return key.name

    async def labels(self, headers: Headers) -> str:
        """The client's name, if its key is one for labels."""
        key: Key = await asyncio.to_thread(
            self._authenticator.identify, _text(headers.get(b"authorization"))
        )
        require_right(key, "label", endpoint=None)
        return key.name


class EvaluatorHost:
    """Runs the Evaluator in a thread of its own process, at the lowest priority."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._evaluator: Evaluator | None = None
        self._thread = threading.Thread(target=self._run, name="evaluator", daemon=True)

    def start(self) -> None:
        """Step back behind everything else, and begin."""
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        self._thread.start()

    def stop(self) -> None:
        """End after the work under way."""
        self._stopping.set()
        if self._evaluator is not None:
            self._evaluator.stop()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            self._evaluate()
        except BaseException:
            # A process whose only thread of work is dead must not look alive: the host
            # starts another one.
            traceback.print_exc()
            os._exit(1)

    def _evaluate(self) -> None:
        state = self._settings.state
        if lock_state(state / "evaluator.lock", stopping=self._stopping) is None:
            return
        store = open_store(self._settings.store_url)
        self._evaluator = build_evaluator(self._settings, store)
        self._evaluator.run()


def build_evaluator(settings: Settings, store: ControlStore) -> Evaluator:
    """The Evaluator over one state folder."""
    state = settings.state

    def make_runner(facts: VersionFacts) -> Runner:
        return Runner(
            facts,
            command=_RUNNER_COMMAND,
            root=str(settings.models),
            memory_bytes=settings.shadow_memory_bytes,
            cpu_limit_s=settings.shadow_time_limit_s,
        )

    def make_lane(registration: Registration, cursor: Cursor) -> Lane:
        return Lane(
            registration,
            sources=state / "journal",
            journal=JournalWriter(state / "shadow", writer_id=_writer_id()),
            rollout_at=lambda epoch: store.rollout(registration.endpoint, epoch=epoch),
            make_runner=make_runner,
            cursor=cursor,
        )

    return Evaluator(
        state=state,
        store=store,
        archive=ArchiveWriter(state / "archive"),
        cursors=Cursors(state / "shadow"),
        make_lane=make_lane,
        judge=ArchiveJudge(state / "archive", store),
        clock_us=lambda rollout: _endpoint_clock_us(state, rollout),
        sinks=[sink for sink in (span_sink(),) if sink is not None],
        flush_every_s=settings.flush_every_s,
    )


def _endpoint_clock_us(state: Path, rollout: Rollout) -> int:
    if rollout.rules.event_time == "client":
        return read_clock(state / "clock" / rollout.endpoint)
    return _now_us()


def serve(*, host: str, port: int, workers: int, settings: Settings) -> None:
    """Serve until a signal: BentoML with our services, which prepare the state first."""
    os.environ.update(_environment(settings, workers))
    if is_loopback(host):
        os.environ.setdefault("AUDITION_OPEN_INFERENCE", "true")
    # BentoML reads the environment when it is imported, and the service reads `workers` from it.
    from _bentoml_impl.server import serve_http  # noqa: PLC0415

    from gateway.service import Gateway  # noqa: PLC0415

    Gateway.inject_config()
    server = serve_http(
        "gateway.service:Gateway",
        working_dir=str(Path(__file__).parent.parent),
        host=host,
        port=port,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=20,
    )
    server.stop()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost may be any."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _environment(settings: Settings, workers: int) -> dict[str, str]:
    state = settings.state.absolute()
    return {
        "AUDITION_STATE": str(state),
        "AUDITION_MODELS": str(settings.models.absolute()),
        "AUDITION_WORKERS": str(workers),
        # Each server wipes the metrics folder below it, so two servers must not share one.
        "BENTOML_HOME": str(state / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }


def _load(repository: ModelRepository, facts: VersionFacts) -> OnnxModel:
    content, folder = repository.read(facts)
    return OnnxModel(facts, content, folder=folder)


def _writer_id() -> str:
    return secrets.token_hex(WRITER_ID_DIGITS // 2)


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _now_us() -> int:
    return time.time_ns() // 1000
