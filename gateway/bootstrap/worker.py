"""One worker's application: the data plane and the operators' API over one journal."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
from collections.abc import MutableMapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.archive.label_index import LabelIndex
from gateway.bootstrap.access import Access
from gateway.bootstrap.clocks import EventClocks
from gateway.bootstrap.control import known_store
from gateway.bootstrap.identity import new_writer_id, now_us
from gateway.bootstrap.leave import Leave
from gateway.bootstrap.mapped_repository import MappedRepository
from gateway.core.routes import VersionFacts
from gateway.journal.reader import end_offset, live_writers, writer_ids
from gateway.journal.writer import JournalWriter
from gateway.judge.coverage import wait_archived
from gateway.judge.operations import Operations
from gateway.ports import ControlStore
from gateway.protocols import admin_operations, app, oip_operations
from gateway.protocols.admin_http import build_admin
from gateway.protocols.admin_routes import Limits
from gateway.protocols.app import Routed
from gateway.protocols.asgi import Application, Receive, Scope, Send
from gateway.protocols.authentication import Authenticator
from gateway.protocols.export_http import EXPORT, export_routes
from gateway.protocols.labels_http import TAKE_LABELS, LabelsApp
from gateway.protocols.oip_catalogue import Catalogue
from gateway.protocols.oip_http import InferenceApp
from gateway.protocols.oip_inference import Inference
from gateway.protocols.openapi import openapi_document
from gateway.runtimes.onnx import OnnxModel
from gateway.runtimes.repository import ModelRepository
from gateway.serving.dataplane import DataPlane
from gateway.serving.last_good import LastGood
from gateway.serving.routes import Routes
from gateway.serving.runs import Runs
from gateway.serving.trace import Tracer
from gateway.serving.watch import Watch
from gateway.settings import Settings
from gateway.telemetry.dead_processes import merge_dead, multiprocess_folder, unmerged
from gateway.telemetry.prometheus import MetricsSink, show_epoch, show_provider

if TYPE_CHECKING:
    from gateway.protocols.grpc_port import GrpcPort

_EXPORT_WAITS_S = 30.0
#: Every route that a worker answers.
OPERATIONS = (
    *oip_operations.OPERATIONS,
    TAKE_LABELS,
    *admin_operations.OPERATIONS,
    EXPORT,
    *app.OPERATIONS,
)


class WorkerApp:
    """The ASGI application of one worker: ours in front, the host's own behind it."""

    def __init__(self, settings: Settings, host_app: Application) -> None:
        self._store = known_store(settings)
        self._last_good = LastGood(settings.state / "last-good")
        self._journal = JournalWriter(settings.state / "journal", writer_id=new_writer_id())
        self._routes = Routes()
        self._clocks = EventClocks(
            settings.state / "clock", writer_id=self._journal.writer_id, routes=self._routes
        )
        self._dataplane = DataPlane(
            journal=self._journal,
            runs=Runs(threads=os.cpu_count() or 1, waiting=settings.max_waiting_runs),
            clock_of=self._clocks.of,
            sinks=(MetricsSink(),),
            serve_unrecorded=settings.journal_on_full == "serve_unrecorded",
        )
        repository = ModelRepository(settings.models)
        self._watch = self._watching(settings, repository)
        authenticator = Authenticator(self._store)
        access = Access(authenticator, open_inference=settings.open_inference)
        self.inference = Inference(
            routes=self._routes,
            dataplane=self._dataplane,
            tracer=Tracer(ratio=settings.trace_ratio, seed=secrets.randbits(64)),
            authorise=access.inference,
            max_body_bytes=settings.max_body_bytes,
        )
        catalogue = Catalogue(routes=self._routes, authorise=access.inference)
        self._grpc = self._grpc_port(settings, catalogue)
        self._host_app = host_app
        self._leave = Leave(drain_s=settings.drain)
        self._app = Routed(
            inference=InferenceApp(
                catalogue=catalogue, inference=self.inference, is_ready=self.is_ready
            ),
            labels=self._labels_app(settings, access),
            admin=self._admin_app(settings, repository, authenticator),
            metrics=_scraped(host_app),
            authorise_metrics=access.metrics,
            is_ready=self.is_ready,
            openapi=partial(openapi_document, OPERATIONS, is_open=settings.open_inference),
        )
        self._following: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan of the worker."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await self._start()
        try:
            await self._host_app(scope, partial(self._drained, receive), send)
        finally:
            self._stop()

    async def _drained(self, receive: Receive) -> MutableMapping[str, Any]:
        """The next word of the lifespan. The process ends as soon as the host has heard the last,
        so calls under way are given their time before it does.
        """
        message = await receive()
        if message["type"] == "lifespan.shutdown" and self._grpc is not None:
            await self._grpc.stop()
        return message

    def is_ready(self) -> bool:
        """Every endpoint loaded once, journal writable, and not about to stop.

        Never the Evaluator's or the store's state: a worker serves on without either.
        """
        is_staying = not self._leave.has_begun
        return is_staying and self._watch.is_complete and self._journal.is_writable()

    async def _start(self) -> None:
        self._leave.watch()
        folder = multiprocess_folder()
        if folder is not None:
            merge_dead(folder)
        self._watch.step()
        if self._grpc is not None:
            await self._grpc.start()
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

    def _watching(self, settings: Settings, repository: ModelRepository) -> Watch:
        return Watch(
            store=self._store,
            routes=self._routes,
            load=lambda facts: _load(repository, facts, settings.provider_names),
            preferred_provider=settings.provider_names[0],
            show_provider=show_provider,
            writer_id=self._journal.writer_id,
            pid=os.getpid(),
            host=socket.gethostname(),
            unrecorded_rows=lambda: self._dataplane.unrecorded_rows,
            show_epoch=show_epoch,
            last_good=self._last_good,
        )

    def _grpc_port(self, settings: Settings, catalogue: Catalogue) -> GrpcPort | None:
        if not settings.grpc_port:
            return None
        # gRPC takes 25 MB and a tenth of a second, which a gateway without it shall not pay.
        from gateway.bootstrap.grpc_port import grpc_port  # noqa: PLC0415

        return grpc_port(
            settings,
            catalogue=catalogue,
            inference=self.inference,
            dataplane=self._dataplane,
            is_ready=self.is_ready,
        )

    def _labels_app(self, settings: Settings, access: Access) -> LabelsApp:
        return LabelsApp(
            journal=self._journal,
            index=LabelIndex(settings.state / "labels.sqlite"),
            authorise=access.labels,
            admit_time=self._clocks.admit_label_time,
            max_body_bytes=settings.max_body_bytes,
        )

    def _admin_app(
        self, settings: Settings, repository: ModelRepository, authenticator: Authenticator
    ) -> Application:
        journals = settings.state / "journal"
        operations = Operations(
            self._store,
            clock_us=now_us,
            live_workers=lambda: live_writers(journals),
            repository=MappedRepository(repository),
        )
        exports = export_routes(
            settings.state / "archive",
            where=settings.archive,
            rules_of=lambda endpoint: self._store.rollout(endpoint).rules,
            covered_now=lambda: _archived_now(self._store, journals),
        )
        limits = Limits(
            upload_folder=settings.state / "uploads", model_bytes=settings.max_model_bytes
        )
        return build_admin(operations, authenticator.identify, exports, limits=limits)


def _scraped(host_app: Application) -> Application:
    """The host's `/metrics`, while no file of a dead process is being merged."""
    folder = multiprocess_folder()
    if folder is None:
        return host_app

    async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, unmerged(folder))
            await host_app(scope, receive, send)

    return metrics


async def _archived_now(store: ControlStore, journals: Path) -> None:
    """Wait until the archive has what the journals hold by now."""
    ends = {writer_id: end_offset(journals / writer_id) for writer_id in writer_ids(journals)}
    await asyncio.to_thread(wait_archived, store, ends, within_s=_EXPORT_WAITS_S)


def _load(
    repository: ModelRepository, facts: VersionFacts, providers: tuple[str, ...]
) -> OnnxModel:
    content, folder = repository.read(facts)
    return OnnxModel(facts, content, folder=folder, providers=providers)
