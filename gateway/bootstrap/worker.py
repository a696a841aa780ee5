"""One worker's application: the data plane and the operators' API over one journal."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
from threading import Lock

from gateway.archive.label_index import LabelIndex
from gateway.bootstrap.identity import new_writer_id, now_us
from gateway.core.access import Right, require_right
from gateway.core.routes import VersionFacts
from gateway.errors import Forbidden, InvalidInput, Unauthenticated
from gateway.journal.reader import end_offset, live_writers, writer_ids
from gateway.journal.writer import JournalWriter
from gateway.judge.coverage import wait_archived
from gateway.judge.operations import Operations
from gateway.ports import Key
from gateway.protocols.admin_http import build_admin
from gateway.protocols.admin_routes import Limits
from gateway.protocols.app import Routed
from gateway.protocols.asgi import Application, Headers, Receive, Scope, Send
from gateway.protocols.authentication import Authenticator
from gateway.protocols.export_http import export_routes
from gateway.protocols.labels_http import LabelsApp
from gateway.protocols.oip_http import InferenceApp
from gateway.protocols.oip_inference import Inference
from gateway.runtimes.onnx import OnnxModel
from gateway.runtimes.repository import ModelRepository
from gateway.serving.clock import EventClock
from gateway.serving.dataplane import DataPlane
from gateway.serving.routes import Routes
from gateway.serving.runs import Runs
from gateway.serving.trace import Tracer
from gateway.serving.watch import Watch
from gateway.settings import Settings
from gateway.stores.sql import open_store
from gateway.telemetry.prometheus import MetricsSink, show_epoch

_EXPORT_WAITS_S = 30.0


class WorkerApp:
    """The ASGI application of one worker: ours in front, the host's own behind it."""

    def __init__(self, settings: Settings, host_app: Application) -> None:
        self._host_app = host_app
        self._state = settings.state
        self._store = open_store(settings.store_url)
        self._journal = JournalWriter(settings.state / "journal", writer_id=new_writer_id())
        self._routes = Routes()
        self._clocks: dict[str, EventClock] = {}
        self._clocks_lock = Lock()
        repository = ModelRepository(settings.models)
        authenticator = Authenticator(self._store)
        self._watch = Watch(
            store=self._store,
            routes=self._routes,
            load=lambda facts: _load(repository, facts),
            writer_id=self._journal.writer_id,
            pid=os.getpid(),
            host=socket.gethostname(),
            unrecorded_rows=lambda: self._dataplane.unrecorded_rows,
            show_epoch=show_epoch,
        )
        self._dataplane = DataPlane(
            journal=self._journal,
            runs=Runs(threads=os.cpu_count() or 1, waiting=settings.max_waiting_runs),
            clock_of=self._clock_of,
            sinks=(MetricsSink(),),
            serve_unrecorded=settings.journal_on_full == "serve_unrecorded",
        )
        access = _Access(authenticator, open_inference=settings.open_inference)
        self.inference = Inference(
            routes=self._routes,
            dataplane=self._dataplane,
            tracer=Tracer(ratio=settings.trace_ratio, seed=secrets.randbits(64)),
            authorise=access.inference,
            max_body_bytes=settings.max_body_bytes,
        )
        self._app = Routed(
            inference=InferenceApp(
                routes=self._routes,
                inference=self.inference,
                authorise=access.inference,
                is_ready=self.is_ready,
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
                export_routes(
                    settings.state / "archive",
                    rules_of=lambda endpoint: self._store.rollout(endpoint).rules,
                    covered_now=self._covered_now,
                ),
                limits=Limits(
                    upload_folder=settings.state / "uploads", model_bytes=settings.max_model_bytes
                ),
            ),
            metrics=host_app,
            authorise_metrics=access.metrics,
            is_ready=self.is_ready,
        )
        self._following: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        return bool(self._routes.tables) and self._journal.is_writable()

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
            # Requests ask on the event loop, labels in a thread; a second clock would begin the
            # file of the first anew.
            with self._clocks_lock:
                clock = self._clocks.get(endpoint) or self._new_clock(endpoint)
        return clock

    def _new_clock(self, endpoint: str) -> EventClock:
        rules = self._routes.tables[endpoint].rules
        clock = self._clocks[endpoint] = EventClock(
            self._state / "clock" / endpoint,
            writer_id=self._journal.writer_id,
            tolerance_us=rules.clock_tolerance_s * 1_000_000,
        )
        return clock

    def _admit_label_time(self, observed_at_us: int) -> None:
        """A label names no endpoint, so any endpoint's clock may admit its time.

        It moves none: only where it is joined to its prediction is known whose time it is.
        """
        refusal: InvalidInput | None = None
        for endpoint, table in self._routes.tables.items():
            try:
                if table.rules.event_time == "client":
                    self._clock_of(endpoint).check("observed_at", observed_at_us)
                elif observed_at_us > now_us() + table.rules.clock_tolerance_s * 1_000_000:
                    raise InvalidInput("observed_at", "the time lies in the future")
            except InvalidInput as error:
                refusal = error
            else:
                return
        if refusal is not None:
            raise refusal

    async def _covered_now(self) -> None:
        root = self._state / "journal"
        ends = {writer_id: end_offset(root / writer_id) for writer_id in writer_ids(root)}
        await asyncio.to_thread(wait_archived, self._store, ends, within_s=_EXPORT_WAITS_S)

    def _operations(self, repository: ModelRepository) -> Operations:
        return Operations(
            self._store,
            clock_us=now_us,
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

    def metrics(self, headers: Headers) -> str:
        """The reader's name; a scraper's key is one that may view."""
        authorization = headers.get(b"authorization")
        if authorization is None and self._open:
            return ""
        key = self._authenticator.identify(_text(authorization))
        require_right(key, "view", endpoint=None)
        return key.name

    async def labels(self, headers: Headers) -> str:
        """The client's name, if its key is one for labels."""
        key: Key = await asyncio.to_thread(
            self._authenticator.identify, _text(headers.get(b"authorization"))
        )
        require_right(key, "label", endpoint=None)
        if key.endpoints:
            raise Forbidden("labels name no endpoint; use a label key that covers all of them")
        return key.name


def _load(repository: ModelRepository, facts: VersionFacts) -> OnnxModel:
    content, folder = repository.read(facts)
    return OnnxModel(facts, content, folder=folder)


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")
