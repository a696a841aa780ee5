"""The operators' API: what comes in, what goes out, and who is kept out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.judge.operations import Operations
from gateway.ports import EvaluatorReport, WorkerReport
from gateway.protocols.admin_http import GuardedRoute, admin_routes, build_admin
from gateway.protocols.admin_routes import AdminRoutes, Limits
from gateway.protocols.authentication import Authenticator
from gateway.protocols.labels_http import TAKE_LABELS
from gateway.stores.sql import SqlStore
from tests.asgi_client import AsgiClient
from tests.rollouts import Shelf, facts, solo, store_at
from tests.verdicts import checkpoint_of

ONE = "/v1/endpoints/demo"
WORKER = "a" * 12


class Site:
    """The application over a store, with a key of each role."""

    def __init__(self, store: SqlStore, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.shelf = Shelf(*(facts(version) for version in "123"))
        self.operations = Operations(
            store,
            clock_us=lambda: 1_000_000,
            live_workers=lambda: {WORKER},
            repository=self.shelf,
            acknowledge_within_s=0,
        )
        self.limits = Limits(upload_folder=folder, body_bytes=4096, model_bytes=10_000)
        extra = GuardedRoute(TAKE_LABELS, _accept_labels)
        app = build_admin(
            self.operations, Authenticator(store).identify, [extra], limits=self.limits
        )
        self.client = AsgiClient(app)
        self.tokens = {
            role: self.operations.create_key(name=f"key-{role}", role=role).token
            for role in ("infer", "label", "view", "operate", "admin")
        }

    def ask(
        self, method: str, path: str, document: Any = None, *, role: str = "admin", **options: Any
    ) -> Any:
        """A request with the role's key and, for a change, the epoch of now."""
        headers = {"authorization": f"Bearer {self.tokens[role]}", **options.pop("headers", {})}
        if method != "GET":
            headers.setdefault("if-match", f'"{self.epoch()}"')
        if document is not None:
            options["json"] = document
        kept = {name: value for name, value in headers.items() if value is not None}
        return self.client.request(method, path, headers=kept, **options)

    def epoch(self) -> int:
        """The endpoint's epoch now."""
        return self.store.rollout("demo").epoch

    def challenge(self, version: str = "2") -> Any:
        """Put the version into shadow."""
        answer = self.ask("PUT", f"{ONE}/challengers/{version}", {})
        assert answer.status_code == 200, answer.text
        return answer.json()


async def _accept_labels(request: Request) -> Response:
    return JSONResponse({"by": request.scope["key"].name}, 202)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Champion 1; files of 2 and 3 are there; one worker has loaded all."""
    store = store_at(tmp_path)
    store.create(solo(versions=("1",)), actor="setup", reason="", at_us=1)
    digests = [facts(version).digest for version in "123"]
    store.report_worker(WorkerReport(WORKER, 1, "h", 1, {"demo": 1}, {"demo": digests}))
    yield Site(store, tmp_path)
    store.close()


def _routes(site: Site) -> list[tuple[str, str, str]]:
    guarded = admin_routes(AdminRoutes(site.operations, site.limits))
    found = [(one.operation.method, one.operation.path, one.operation.needs) for one in guarded]
    return [*found, ("POST", "/v1/labels", "label")]


def _filled(path: str) -> str:
    return path.replace("{endpoint}", "demo").replace("{version}", "2")


def test_no_route_answers_without_a_key(site: Site) -> None:
    """Every route, and every path that is none: the same 401 for no key and a wrong one."""
    paths = [(method, _filled(path)) for method, path, _ in _routes(site)]
    for method, path in [*paths, ("GET", "/v1/nothing"), ("DELETE", ONE)]:
        site.client.app = build_admin(  # a fresh count of failures
            site.operations, Authenticator(site.store).identify, limits=site.limits
        )
        missing = site.client.request(method, path)
        wrong = site.client.request(method, path, headers={"authorization": "Bearer wrong"})
        assert missing.status_code == wrong.status_code == 401, path
        assert missing.json() == wrong.json()
        assert missing.headers["www-authenticate"] == "Bearer"


def test_a_route_is_closed_to_roles_without_its_right(site: Site) -> None:
    """Every route against every role: 403 exactly where the right is not granted."""
    allowed = {
        "view": {"view", "operate", "admin"},
        "operate": {"operate", "admin"},
        "admin": {"admin"},
        "label": {"label"},
    }
    for method, path, needs in _routes(site):
        for role in site.tokens:
            answer = site.ask(method, _filled(path), role=role, headers={"if-match": '"0"'})
            assert (answer.status_code == 403) == (role not in allowed[needs]), (path, role)


def test_every_operation_of_the_design_has_its_route(site: Site) -> None:
    """The table of protocols, as far as it is served from here."""
    assert {(method, path.removeprefix("/v1")) for method, path, _ in _routes(site)} == {
        ("GET", "/endpoints"),
        ("GET", "/endpoints/{endpoint}"),
        ("PUT", "/endpoints/{endpoint}/split"),
        ("PUT", "/endpoints/{endpoint}/shadow"),
        ("PUT", "/endpoints/{endpoint}/challengers/{version}"),
        ("DELETE", "/endpoints/{endpoint}/challengers/{version}"),
        ("POST", "/endpoints/{endpoint}/promotions"),
        ("POST", "/endpoints/{endpoint}/rollbacks"),
        ("GET", "/endpoints/{endpoint}/evidence"),
        ("GET", "/endpoints/{endpoint}/decisions"),
        ("GET", "/endpoints/{endpoint}/versions"),
        ("POST", "/endpoints/{endpoint}/versions"),
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("POST", "/labels"),
    }


def test_a_further_route_sees_its_key(site: Site) -> None:
    """What plugs in is guarded as our own, and knows who asks."""
    answer = site.ask("POST", "/v1/labels", [], role="label")
    assert (answer.status_code, answer.json()) == (202, {"by": "key-label"})


def test_a_key_for_some_endpoints_sees_only_those(site: Site) -> None:
    """Neither the others, nor the keys, with which it could make itself a greater one."""
    made = site.operations.create_key(name="limited", role="admin", endpoints=["other"])
    site.tokens["limited"] = made.token
    assert site.ask("GET", ONE, role="limited").status_code == 403
    assert site.ask("GET", "/v1/endpoints", role="limited").json() == {"endpoints": []}
    body = {"name": "greater", "role": "admin"}
    assert site.ask("POST", "/v1/keys", body, role="limited").status_code == 403
    assert site.ask("GET", "/v1/keys", role="limited").status_code == 403


def test_status_carries_the_epoch_that_a_change_sends_back(site: Site) -> None:
    """ETag and If-Match are one and the same."""
    answer = site.ask("GET", ONE)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert answer.headers["content-type"] == "application/json"
    changed = site.ask(
        "PUT", f"{ONE}/challengers/2", {}, headers={"if-match": answer.headers["etag"]}
    )
    assert changed.status_code == 200
    assert changed.headers["etag"] == f'"{site.epoch()}"'
    assert site.ask("GET", "/v1/endpoints").json()["endpoints"][0]["epoch"] == site.epoch()


def test_the_whole_story_by_http(site: Site) -> None:
    """Challenge, shadow, split, verdict, promotion, rollback, and the log of it all."""
    opened = site.challenge()["opened"]
    assert opened[0]["registration"] == 1 and 0 < opened[0]["level"] < 0.05
    shadow = site.ask("PUT", f"{ONE}/shadow", {"version": "2", "sample_bp": 5000})
    split = site.ask("PUT", f"{ONE}/split", {"weights_bp": {"1": 9000, "2": 1000}})
    assert (shadow.status_code, split.status_code) == (200, 200)
    assert site.ask("GET", ONE).json()["split_bp"] == {"1": 9000, "2": 1000}
    early = site.ask("POST", f"{ONE}/promotions", {"version": "2"})
    assert early.status_code == 409 and "nothing yet" in early.json()["error"]
    site.store.report_evaluator(EvaluatorReport(1_000_000, 1, msgspec.Raw(b"{}")))
    site.store.add_checkpoint(checkpoint_of(site.store.registrations("demo")[0], "PROMOTE"))
    assert site.ask("POST", f"{ONE}/promotions", {"version": "2"}).status_code == 200
    back = site.ask("POST", f"{ONE}/rollbacks", {"reason": "too slow"})
    assert back.status_code == 200 and back.json()["lagging"] == [WORKER]
    log = site.ask("GET", f"{ONE}/decisions").json()
    assert log["faults"] == []
    assert [line["command"]["type"] for line in log["decisions"]] == [
        "create",
        "add_version",
        "challenge",
        "shadow",
        "split",
        "promote",
        "rollback",
    ]
    assert {line["actor"] for line in log["decisions"][1:]} == {"key-admin"}
    assert log["decisions"][-1]["reason"] == "too slow"
    evidence = site.ask("GET", f"{ONE}/evidence").json()["registrations"]
    assert evidence[0]["checkpoint"]["verdict"]["kind"] == "PROMOTE"


def test_a_challenger_is_withdrawn_with_a_reason(site: Site) -> None:
    """DELETE has no body: the reason is in the query."""
    site.challenge()
    answer = site.ask("DELETE", f"{ONE}/challengers/2?reason=too+old")
    assert answer.status_code == 200
    assert site.store.decisions("demo")[-1].reason == "too old"


def test_of_two_promotions_one_wins(site: Site) -> None:
    """The other is told the epoch that it lost to."""
    site.challenge()
    headers = {"if-match": f'"{site.epoch()}"'}
    body = {"version": "2", "force": True, "reason": "a drill"}
    first = site.ask("POST", f"{ONE}/promotions", body, headers=headers)
    second = site.ask("POST", f"{ONE}/promotions", body, headers=headers)
    assert (first.status_code, second.status_code) == (200, 409)
    assert second.json()["epoch"] == site.epoch()
    assert second.headers["etag"] == f'"{site.epoch()}"'


CHANGES = [
    ("PUT", f"{ONE}/split", {"weights_bp": {"1": 10_000}}),
    ("PUT", f"{ONE}/shadow", {"version": "2", "sample_bp": 1}),
    ("PUT", f"{ONE}/challengers/2", {}),
    ("DELETE", f"{ONE}/challengers/2", None),
    ("POST", f"{ONE}/promotions", {"version": "2"}),
    ("POST", f"{ONE}/rollbacks", {"reason": "why not"}),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_change_needs_the_epoch_it_was_decided_on(
    site: Site, method: str, path: str, body: Any
) -> None:
    """428 without, 400 with nonsense, 409 with another one; nothing is changed."""
    for given, status in ((None, 428), ("*", 400), ('"-1"', 400), ('"77"', 409)):
        answer = site.ask(method, path, body, headers={"if-match": given})
        assert (answer.status_code, "error" in answer.json()) == (status, True), given
    assert site.epoch() == 1


@pytest.mark.parametrize("content_type", ["application/x-pickle", "text/plain", "", "a/b; c=json"])
def test_a_body_that_is_not_json_is_415(site: Site, content_type: str) -> None:
    """On every route, also where no body is expected; pickles above all."""
    for method, path, _ in _routes(site):
        if path == "/v1/labels" or (content_type == "" and method in ("GET", "DELETE")):
            continue
        answer = site.ask(
            method,
            _filled(path),
            content=b"\x80\x04." if method in ("PUT", "POST") else None,
            headers={"content-type": content_type},
        )
        assert answer.status_code == 415, (method, path)
        assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 4000, "body"),
        (b'{"weights_bp":' + b"[" * 4000, "weights_bp"),
        (b'{"weights_bp":{"1":"9000"}}', "weights_bp"),
        (b'{"weights_bp":{"1":1e999}}', "weights_bp"),
        (b'{"weights_bp":{"1":0.5}}', "weights_bp"),
        (b'{"weights_bp":{"1":true}}', "weights_bp"),
        (b'{"weights_bp":null}', "weights_bp"),
        (b'{"weights":{"1":10000}}', "weights"),
        (b'{"weights_bp":{"1":10000},"reason":5}', "reason"),
    ],
)
def test_a_body_that_cannot_be_used_is_400_and_says_where(
    site: Site, body: bytes, names: str
) -> None:
    """The message begins with the field, and nothing is changed."""
    headers = {"content-type": "application/json"}
    answer = site.ask("PUT", f"{ONE}/split", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert names in answer.json()["error"]
    assert site.epoch() == 1


def test_a_body_over_the_limit_is_413(site: Site) -> None:
    """By its declared length, and by what really comes."""
    headers = {"content-type": "application/json"}
    large = b" " * 5000
    declared = site.ask("PUT", f"{ONE}/split", content=large, headers=headers)
    streamed = site.ask("PUT", f"{ONE}/split", content=iter([large]), headers=headers)
    assert (declared.status_code, streamed.status_code) == (413, 413)


def test_an_encoded_body_is_415(site: Site) -> None:
    """Nothing is inflated here."""
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = site.ask("PUT", f"{ONE}/split", content=b"\x1f\x8b", headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize("name", ["UPPER", "a%0ab", "..", "%2e%2e", "x" * 64, "a..b", "%00"])
def test_a_name_that_is_none_is_422_or_no_route(site: Site, name: str) -> None:
    """A path never reaches a file by its name."""
    for path in (f"/v1/endpoints/{name}", f"{ONE}/challengers/{name}"):
        answer = site.ask("PUT" if "challengers" in path else "GET", path, None)
        assert answer.status_code in (422, 404, 405, 307, 415), answer.text
    if "%2e" not in name and name != "..":
        assert site.ask("GET", f"/v1/endpoints/{name}").status_code == 422


def test_what_is_not_there_is_404(site: Site) -> None:
    """Endpoint, version and path, each as JSON."""
    for method, path, body in (
        ("GET", "/v1/endpoints/other", None),
        ("PUT", f"{ONE}/challengers/9", {}),
        ("GET", "/v1/nothing", None),
    ):
        answer = site.ask(method, path, body)
        assert answer.status_code == 404, path
        assert list(answer.json()) == ["error"]


def test_another_method_is_405(site: Site) -> None:
    """With the methods that there are."""
    answer = site.ask("PATCH", f"{ONE}/split", {})
    assert (answer.status_code, answer.headers["allow"]) == (405, "PUT, OPTIONS")
    assert list(answer.json()) == ["error"]
    allowed = site.ask("OPTIONS", f"{ONE}/challengers/2")
    assert (allowed.status_code, allowed.headers["allow"]) == (204, "DELETE, PUT, OPTIONS")
    head = site.ask("HEAD", ONE)
    assert (head.status_code, head.headers["etag"]) == (200, '"1"')


def test_a_path_that_is_none_is_404(site: Site) -> None:
    """In the form of every other error; a slash too many makes another path."""
    for path in ("/v1/nothing", f"{ONE}/", "/v1/keys/"):
        answer = site.ask("GET", path)
        assert answer.status_code == 404
        assert answer.json() == {"error": f"there is nothing at {path}"}


def _upload(site: Site, version: str, content: Any, **headers: str | None) -> Any:
    given = {"content-type": "application/octet-stream", **headers}
    return site.ask(
        "POST",
        f"{ONE}/versions?version={version}&reason=newer",
        content=content,
        headers=given,
    )


def test_a_model_file_becomes_a_version(site: Site) -> None:
    """Listed with its role; the folder it waited in is gone."""
    del site.shelf.files["2"]
    before = sorted(site.folder.iterdir())
    answer = _upload(site, "2", iter([b"an ", b"onnx ", b"file"]))
    assert answer.status_code == 200, answer.text
    assert site.store.decisions("demo")[-1].reason == "newer"
    versions = site.ask("GET", f"{ONE}/versions").json()
    assert [(v["version"], v["role"]) for v in versions["versions"]] == [
        ("1", "champion"),
        ("2", None),
    ]
    assert versions["not_added"] == ["3"]
    assert sorted(site.folder.iterdir()) == before


def test_a_model_file_that_cannot_be_taken_leaves_nothing(site: Site) -> None:
    """Too large, empty, unnamed, of another type, without an epoch, or a name that is none."""
    before = sorted(site.folder.iterdir())
    assert _upload(site, "4", b"x" * 10_001).status_code == 413
    assert _upload(site, "4", iter([b"x" * 6000] * 2)).status_code == 413
    assert _upload(site, "4", b"").status_code == 400
    assert _upload(site, "%2e%2e", b"x").status_code == 422
    assert _upload(site, "4", b"x", **{"content-type": "application/json"}).status_code == 415
    assert _upload(site, "4", b"x", **{"if-match": None}).status_code == 428
    assert _upload(site, "1", b"x").status_code == 409
    headers = {"content-type": "application/onnx"}
    assert site.ask("POST", f"{ONE}/versions", content=b"x", headers=headers).status_code == 400
    assert sorted(site.folder.iterdir()) == before
    assert "4" not in site.shelf.files


def test_a_key_is_shown_once(site: Site) -> None:
    """In the answer to its making; neither token nor digest is ever listed."""
    made = site.ask("POST", "/v1/keys", {"name": "ci", "role": "label"})
    assert made.status_code == 201
    token = made.json()["token"]
    assert token.startswith("aud_label_")
    site.tokens["ci"] = token
    assert site.ask("POST", "/v1/labels", [], role="ci").status_code == 202
    listed = site.ask("GET", "/v1/keys")
    assert {key["name"] for key in listed.json()["keys"]} >= {"ci", "key-admin"}
    assert token not in listed.text and "sha256" not in listed.text
    assert site.ask("POST", "/v1/keys", {"name": "ci", "role": "view"}).status_code == 409
    assert site.ask("POST", "/v1/keys", {"name": "x", "role": "root"}).status_code == 400


def test_guessing_is_told_when_to_come_back(site: Site) -> None:
    """429 with Retry-After; a known key is served all the while."""
    guesses = [
        site.client.request("GET", ONE, headers={"authorization": f"Bearer {number}"})
        for number in range(22)
    ]
    assert [guess.status_code for guess in guesses[:20]] == [401] * 20
    assert guesses[-1].status_code == 429 and int(guesses[-1].headers["retry-after"]) >= 1
    assert site.ask("GET", ONE).status_code == 200


def test_a_store_that_is_gone_is_503(tmp_path: Path) -> None:
    """Changes are refused for now; the message holds no statement of SQL."""
    folder = tmp_path / "state"
    folder.mkdir()
    store = store_at(folder)
    store.create(solo(versions=("1",)), actor="setup", reason="", at_us=1)
    site = Site(store, tmp_path)
    assert site.ask("GET", ONE).status_code == 200
    folder.rename(tmp_path / "away")
    answer = site.ask("PUT", f"{ONE}/challengers/2", {}, headers={"if-match": '"1"'})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert "INSERT" not in answer.text
    store.close()


def test_what_nobody_expected_says_nothing_of_its_inside(site: Site) -> None:
    """A bug is a 500 in JSON, without its message."""
    del site.shelf.files
    answer = site.ask("GET", f"{ONE}/versions")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
