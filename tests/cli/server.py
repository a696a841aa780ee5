"""A gateway for the command line: operations and labels behind a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from gateway.archive.label_index import LabelIndex
from gateway.core.access import require_right
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


class Ended(msgspec.Struct):
    """How a command line ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output, which must be one JSON document."""
        return json.loads(self.out)


Run = Callable[..., Ended]


def judge(gateway: Gateway, kind: str) -> None:
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
