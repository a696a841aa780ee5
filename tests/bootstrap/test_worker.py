"""One worker's application, whole: its life, who may use it, and what it survives."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.bootstrap.prepare import prepare
from gateway.bootstrap.worker import WorkerApp
from gateway.core.rollout import AddVersion, Challenge, Command, first_rollout, step
from gateway.core.routes import EndpointRules
from gateway.journal.reader import live_writers, writer_ids
from gateway.judge.access_keys import create_key
from gateway.protocols.asgi import send_json
from gateway.settings import Settings
from gateway.stores.sql import make_store
from tests import models
from tests.serving_process import PATIENCE_S

INFER = "/v2/models/demo/infer"
PINNED = "/v2/models/demo/versions/1/infer"
GOOD = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, 1, 2]}]}
PICKLE = {"content-type": "application/vnd.bentoml+pickle"}


Script = Callable[..., Awaitable[None]]


class Site:
    """A state folder with an endpoint `demo`, and workers over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "models"
        self.root.mkdir()
        self.settings = Settings(
            state=folder / "state",
            models=self.root,
            admin_key="a" * 40,
            open_inference=False,
            grpc_port=0,
        )
        prepare(self.settings)
        self.store = make_store(self.settings.store_url)
        self.tokens = {
            role: create_key(self.store, name=role, role=role, at_us=1).token
            for role in ("infer", "label", "view", "operate")
        }
        self.tokens["admin"] = "a" * 40

    def create(
        self,
        endpoint: str,
        rules: EndpointRules = EndpointRules(),  # noqa: B008
        *,
        content: bytes | None = None,
    ) -> None:
        """An endpoint whose champion is `linear`, or the model given."""
        facts = models.facts_in(self.root, endpoint, "1", content or models.linear())
        rollout = first_rollout(endpoint, champion=facts, rules=rules, salt="s")
        self.store.create(rollout, actor="test", reason="", at_us=1)

    def commit(self, endpoint: str, command: Command) -> int:
        """The next epoch."""
        after = step(self.store.rollout(endpoint), command)
        self.store.commit(after, command=command, actor="test", reason="", at_us=1)
        return after.epoch

    def key(self, role: str) -> dict[str, str]:
        """The header of a role's key."""
        return {"authorization": f"Bearer {self.tokens[role]}"}

    def work(self, script: Script, *, workers: int = 1, **changed: Any) -> None:
        """Run the script against so many workers, a client of each, on one event loop."""
        settings = self.settings.model_copy(update=changed)

        async def main() -> None:
            apps = [WorkerApp(settings, _host) for _ in range(workers)]
            lives = [_Life(app) for app in apps]
            for life in lives:
                await life.begin()
            try:
                async with AsyncExitStack() as stack:
                    await script(*[await stack.enter_async_context(_client(a)) for a in apps])
            finally:
                for life in lives:
                    await life.end()

        asyncio.run(main())


def _client(app: WorkerApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


class _Life:
    """The lifespan of a worker, as its server drives it."""

    def __init__(self, worker: WorkerApp) -> None:
        self._asked: asyncio.Queue[Any] = asyncio.Queue()
        self._said: asyncio.Queue[Any] = asyncio.Queue()
        scope = {"type": "lifespan"}
        self._task = asyncio.create_task(worker(scope, self._asked.get, self._said.put))

    async def begin(self) -> None:
        """Return when the worker has started."""
        await self._asked.put({"type": "lifespan.startup"})
        assert (await self._said.get())["type"] == "lifespan.startup.complete"

    async def end(self) -> None:
        """Return when it has ended."""
        await self._asked.put({"type": "lifespan.shutdown"})
        await self._task


async def _host(scope: Any, receive: Any, send: Any) -> None:
    """What BentoML's own application does: the lifespan, and metrics."""
    if scope["type"] != "lifespan":
        await send_json(send, 200, {"by": "host"})
        return
    for phase in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{phase}"
        await send({"type": f"lifespan.{phase}.complete"})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose workers leave the collector of this process as it was."""
    thresholds = gc.get_threshold()
    site = Site(tmp_path)
    yield site
    site.store.close()
    gc.set_threshold(*thresholds)
    gc.unfreeze()


async def _until(claim: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await claim():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_worker_is_ready_once_it_serves_and_seals_its_journal_at_the_end(site: Site) -> None:
    """Its journal lives as long as it does."""
    site.create("demo")
    root = site.settings.state / "journal"

    async def script(http: httpx.AsyncClient) -> None:
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/v2/health/ready")).status_code == 200
        answer = await http.post(INFER, json=GOOD, headers=site.key("infer"))
        assert answer.json()["outputs"][0]["data"] == [8.0]
        assert len(live_writers(root)) == 1

    site.work(script)
    assert len(writer_ids(root)) == 1
    assert live_writers(root) == set()


def test_a_worker_without_routes_is_alive_and_not_ready(site: Site) -> None:
    """And becomes ready when an endpoint comes."""

    async def script(http: httpx.AsyncClient) -> None:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        site.create("demo")

        async def ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await _until(ready)

    site.work(script)


def test_a_worker_follows_the_rollout(site: Site) -> None:
    """A new epoch is served without a restart, and said in the store."""
    site.create("demo")

    async def script(http: httpx.AsyncClient) -> None:
        site.commit("demo", AddVersion(models.facts_in(site.root, "demo", "2", models.constant())))
        epoch = site.commit("demo", Challenge("2", 1, "terms", 10_000))

        async def acknowledged() -> bool:
            return [report.epochs for report in site.store.workers()] == [{"demo": epoch}]

        await _until(acknowledged)
        found = await http.get("/v2/models/demo", headers=site.key("infer"))
        assert found.json()["versions"] == ["1", "2"]

    site.work(script)


def test_only_the_right_role_gets_in(site: Site) -> None:
    """Deny by default; the same 401 for no key and for a wrong one."""
    site.create("demo")
    label = [{"prediction_id": "0" * 32, "label": 1}]
    requests: list[tuple[str, str, Any, set[str]]] = [
        ("GET", "/v2", None, {"infer"}),
        ("POST", INFER, GOOD, {"infer"}),
        ("POST", PINNED, GOOD, {"operate", "admin"}),
        ("GET", "/v2/models/demo", None, {"infer"}),
        ("GET", "/metrics", None, {"view", "operate", "admin"}),
        ("POST", "/v1/labels", label, {"label"}),
        ("GET", "/v1/endpoints", None, {"view", "operate", "admin"}),
    ]

    async def script(http: httpx.AsyncClient) -> None:
        for method, path, body, allowed in requests:
            answers = {
                role: (await http.request(method, path, json=body, headers=site.key(role)))
                for role in site.tokens
            }
            may = {role for role, answer in answers.items() if answer.status_code < 300}
            assert may == allowed, path
            assert {a.status_code for a in answers.values()} <= {200, 202, 403}, path
            anonymous = await http.request(method, path, json=body)
            wrong = await http.request(
                method, path, json=body, headers={"authorization": "Bearer wrong"}
            )
            assert anonymous.status_code == wrong.status_code == 401, path
            assert anonymous.json() == wrong.json(), path

    site.work(script)


def test_an_open_gateway_answers_anybody_but_for_pinned_versions(site: Site) -> None:
    """On loopback; a key that is sent is checked all the same, and operators may pin."""
    site.create("demo")

    async def script(http: httpx.AsyncClient) -> None:
        for path in ("/v2", "/v2/models/demo", "/metrics"):
            assert (await http.get(path)).status_code == 200
        assert (await http.post(INFER, json=GOOD)).status_code == 200
        assert (await http.post(PINNED, json=GOOD)).status_code == 401
        statuses = {
            role: (await http.post(PINNED, json=GOOD, headers=site.key(role))).status_code
            for role in site.tokens
        }
        assert statuses == {
            "infer": 403, "label": 403, "view": 403, "operate": 200, "admin": 200,
        }  # fmt: skip
        wrong = await http.post(INFER, json=GOOD, headers={"authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        assert (await http.post("/v1/labels", json=[])).status_code == 401

    site.work(script, open_inference=True)


def test_a_key_of_some_endpoints_opens_no_others(site: Site) -> None:
    """And labels, which name no endpoint, need a key of all."""
    site.create("demo")
    site.create("other")
    for role in ("infer", "label"):
        made = create_key(site.store, name=f"{role}-1", role=role, endpoints=["demo"], at_us=1)
        site.tokens[f"{role}-1"] = made.token

    async def script(http: httpx.AsyncClient) -> None:
        key = site.key("infer-1")
        assert (await http.post(INFER, json=GOOD, headers=key)).status_code == 200
        other = await http.post("/v2/models/other/infer", json=GOOD, headers=key)
        assert (other.status_code, "other" in other.json()["error"]) == (403, True)
        labels = await http.post("/v1/labels", json=[], headers=site.key("label-1"))
        assert labels.status_code == 403
        assert "covers all" in labels.json()["error"]

    site.work(script)


def test_pickles_are_refused_on_every_route_of_a_worker(site: Site) -> None:
    """Whoever sends them."""
    site.create("demo", EndpointRules(allow_pinned=True))
    routes = [
        ("POST", INFER), ("POST", PINNED), ("GET", "/v2"), ("GET", "/v2/models/demo"),
        ("GET", "/v2/health/live"), ("POST", "/v1/labels"), ("GET", "/v1/endpoints"),
        ("POST", "/v1/endpoints/demo/versions"), ("GET", "/livez"), ("GET", "/readyz"),
        ("GET", "/metrics"),
    ]  # fmt: skip

    async def script(http: httpx.AsyncClient) -> None:
        for method, path in routes:
            answer = await http.request(method, path, content=b"\x80\x04N.", headers=PICKLE)
            assert answer.status_code == 415, path

    site.work(script, open_inference=True)


def test_workers_share_the_clock_that_clients_bring(site: Site) -> None:
    """A time that one worker has read is no news to another."""
    site.create("demo", EndpointRules(event_time="client", clock_tolerance_s=3600))

    async def script(one: httpx.AsyncClient, two: httpx.AsyncClient) -> None:
        async def status(http: httpx.AsyncClient, moment: str) -> int:
            body = {**GOOD, "parameters": {"occurred_at": moment}}
            return (await http.post(INFER, json=body)).status_code

        for http in (one, two):
            assert await status(http, "2013-04-01T00:00:00Z") == 200
        for hour in range(1, 12):
            assert await status(one, f"2013-04-01T{hour:02}:00:00Z") == 200
        assert await status(two, "2013-04-01T12:00:00Z") == 200
        assert await status(two, "2013-04-01T13:00:01Z") == 400

    site.work(script, workers=2, open_inference=True)


def test_a_labels_time_is_held_against_the_clocks_and_moves_none(site: Site) -> None:
    """Of a day too far ahead the row is refused; the clock is where requests have put it."""
    site.create("demo", EndpointRules(event_time="client"))

    async def observe(http: httpx.AsyncClient, moment: str) -> int:
        label = {"prediction_id": "0" * 32, "label": 1, "observed_at": moment}
        answer = await http.post("/v1/labels", json=[label], headers=site.key("label"))
        return int(answer.json()["invalid"])

    async def script(http: httpx.AsyncClient) -> None:
        body = {**GOOD, "parameters": {"occurred_at": "2013-04-01T00:00:00Z"}}
        assert (await http.post(INFER, json=body)).status_code == 200
        for _ in range(3):
            assert await observe(http, "2013-04-02T00:00:00Z") == 0
            assert await observe(http, "2013-04-02T00:00:01Z") == 1
        site.create("live")

        async def both() -> bool:
            return (await http.get("/v2/models/live")).status_code == 200

        await _until(both)
        # Of an endpoint on our own clock a label may say any time; it might be this one's.
        assert await observe(http, "2024-01-01T00:00:00Z") == 0

    site.work(script, open_inference=True)


def test_one_endpoint_that_never_loaded_makes_a_worker_unready(site: Site) -> None:
    """The others are served all the same; it becomes ready when the last one loads."""
    site.create("demo")
    site.create("other", content=models.constant())
    file = site.settings.models / "other" / "1" / "model.onnx"
    whole = file.read_bytes()
    file.write_bytes(b"cut")

    async def script(http: httpx.AsyncClient) -> None:
        for path in ("/readyz", "/v2/health/ready"):
            assert (await http.get(path)).status_code == 503
        answer = await http.post(INFER, json=GOOD, headers=site.key("infer"))
        assert answer.status_code == 200
        key = site.key("infer")
        assert (await http.get("/v2/models/demo/versions/1/ready", headers=key)).status_code == 200
        assert (await http.get("/v2/models/other/ready", headers=key)).status_code == 404
        file.write_bytes(whole)

        async def ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await _until(ready)

    site.work(script)


def test_a_worker_that_shall_stop_is_unready_and_answers(site: Site) -> None:
    """Traffic goes elsewhere before anything is refused."""
    site.create("demo")

    async def main() -> None:
        worker = WorkerApp(site.settings.model_copy(update={"open_inference": True}), _host)
        life = _Life(worker)
        await life.begin()
        worker._leave.has_begun = True
        async with _client(worker) as http:
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/v2/health/ready")).json() == {"ready": False}
            assert (await http.get("/livez")).status_code == 200
            assert (await http.post(INFER, json=GOOD)).status_code == 200
        await life.end()

    asyncio.run(main())


def test_a_broken_journal_makes_a_worker_unready(site: Site) -> None:
    """It is alive, answers 503 with the reason, and gets no more traffic."""
    site.create("demo")

    async def main() -> None:
        worker = WorkerApp(site.settings.model_copy(update={"open_inference": True}), _host)
        life = _Life(worker)
        await life.begin()
        worker._journal.problem = "the disk of the journal reports an error"
        async with _client(worker) as http:
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/livez")).status_code == 200
            answer = await http.post(INFER, json=GOOD)
            assert answer.status_code == 503
            assert "reports an error" in answer.json()["error"]
        await life.end()

    asyncio.run(main())


def test_without_its_store_a_worker_goes_on(site: Site) -> None:
    """Answers, also to keys that it knew; what needs the store is 503 and not a traceback."""
    site.create("demo")
    path = site.settings.state / "control.sqlite"

    async def script(http: httpx.AsyncClient) -> None:
        assert (await http.post(INFER, json=GOOD, headers=site.key("infer"))).status_code == 200
        away = path.with_name("away")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(f"{away}{suffix}")
        path.mkdir()
        for _ in range(3):
            answer = await http.post(INFER, json=GOOD, headers=site.key("infer"))
            assert answer.status_code == 200
            await asyncio.sleep(0.06)  # a poll of the store in between
        assert (await http.get("/readyz")).status_code == 200
        change = await http.post(
            "/v1/keys", json={"name": "new", "role": "view"}, headers=site.key("admin")
        )
        assert change.status_code == 503, change.text

    site.work(script)
