"""Who may do what on a real gateway, open or closed, and that no route reads pickles."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest

from gateway.bootstrap.worker import OPERATIONS
from tests.flows.endpoints import ECHO, LABELLED
from tests.serving_process import ServingProcess, start_server
from tests.synthetic_models import constant, write_endpoint

ENDPOINT = "guarded"
V1 = f"/v1/endpoints/{ENDPOINT}"
V2 = f"/v2/models/{ENDPOINT}"
#: The right that a route needs, or none for those that are always open.
ROUTES: dict[tuple[str, str], str | None] = {
    ("GET", "/livez"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/readyz"): None,
    ("GET", "/v2/health/live"): None,
    ("GET", "/v2/health/ready"): None,
    ("GET", "/metrics"): "view",
    ("GET", "/v2"): "infer",
    ("GET", V2): "infer",
    ("GET", f"{V2}/ready"): "infer",
    ("POST", f"{V2}/infer"): "infer",
    ("GET", f"{V2}/versions/1"): "infer",
    ("GET", f"{V2}/versions/1/ready"): "infer",
    ("POST", f"{V2}/versions/1/infer"): "operate",
    ("POST", "/v1/labels"): "label",
    ("GET", "/v1/endpoints"): "view",
    ("GET", V1): "view",
    ("GET", f"{V1}/evidence"): "view",
    ("GET", f"{V1}/decisions"): "view",
    ("GET", f"{V1}/versions"): "view",
    ("GET", f"{V1}/export"): "view",
    ("PUT", f"{V1}/split"): "operate",
    ("PUT", f"{V1}/shadow"): "operate",
    ("PUT", f"{V1}/challengers/1"): "operate",
    ("DELETE", f"{V1}/challengers/1"): "operate",
    ("POST", f"{V1}/promotions"): "operate",
    ("POST", f"{V1}/rollbacks"): "operate",
    ("POST", f"{V1}/versions"): "operate",
    ("GET", "/v1/keys"): "admin",
    ("POST", "/v1/keys"): "admin",
}
GUARDED = {route: right for route, right in ROUTES.items() if right is not None}
HELD = {
    "infer": {"infer"},
    "label": {"label"},
    "view": {"view"},
    "operate": {"view", "operate"},
    "admin": {"view", "operate", "admin"},
}
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """A gateway that is not open to anybody without a key."""
    folder = tmp_path_factory.mktemp("closed")
    write_endpoint(folder / "models", ENDPOINT, {"1": constant(0.5)})
    env = {"AUDITION_OPEN_INFERENCE": "false"}
    server = start_server(folder, folder / "models", workers=1, env=env)
    yield server
    server.stop()


def test_every_route_stands_in_the_list() -> None:
    """A route that is added without a line above turns this red."""
    listed = {
        (method, re.sub("(challengers|versions)/1", r"\1/{version}", path), right)
        for (method, path), right in ROUTES.items()
    }
    assert {
        (method, path.replace(ENDPOINT, "{endpoint}"), right) for method, path, right in listed
    } == {(one.method, one.path, one.needs) for one in OPERATIONS}


def test_health_needs_no_key(closed: ServingProcess) -> None:
    """Whoever supervises the process has none."""
    with closed.http() as http:
        for method, path in ROUTES.keys() - GUARDED.keys():
            assert http.request(method, path).status_code == 200, path


def test_every_other_route_needs_a_key(closed: ServingProcess) -> None:
    """401 in the protocol's form, before anything is read or looked up."""
    with closed.http() as http:
        for method, path in [*GUARDED, ("GET", "/v1/nothing"), ("GET", "/v2/models/nobody")]:
            answer = http.request(method, path)
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert set(json.loads(answer.content)) == {"error"}


def test_a_wrong_key_is_told_what_no_key_is_told(closed: ServingProcess) -> None:
    """The same status and the same words, on each kind of route."""
    with closed.http() as http:
        for path in (V2, V1, "/metrics"):
            missing = http.get(path)
            wrong = http.get(path, headers={"authorization": "Bearer aud_admin_wrong"})
            assert (wrong.status_code, wrong.text) == (missing.status_code, missing.text)


@pytest.mark.parametrize("role", sorted(HELD))
def test_a_key_opens_its_own_routes_only(closed: ServingProcess, role: str) -> None:
    """403 says who may; labels and inference are kept apart from operating, even for admins."""
    with closed.http(role) as http:
        for (method, path), right in GUARDED.items():
            body = {"json": BODY} if path.endswith("infer") else {}
            status = http.request(method, path, **body).status_code
            assert (status == 403) == (right not in HELD[role]), (method, path, status)
            assert status not in (401, 500), (method, path)


def test_inference_is_open_on_loopback(gateway: ServingProcess) -> None:
    """As `audition serve` starts by default; operating is not."""
    with gateway.http() as http:
        assert http.post(f"/v2/models/{LABELLED}/infer", json=BODY).status_code == 200
        assert http.get("/v2").status_code == http.get("/metrics").status_code == 200
        assert http.get("/v1/endpoints").status_code == 401
        assert http.post("/v1/labels", json=[]).status_code == 401


def test_pinning_is_for_operators_unless_the_endpoint_allows_it(gateway: ServingProcess) -> None:
    """`allow_pinned: true` opens it to whoever may infer."""
    pinned = f"/v2/models/{LABELLED}/versions/1/infer"
    with gateway.http() as http:
        assert http.post(pinned, json=BODY).status_code == 401
        # Not 401: what is missing from the request is said only to those who were let in.
        allowed = http.post(f"/v2/models/{ECHO}/versions/1/infer", json={"inputs": []})
        assert allowed.status_code == 400
    for role, status in (("infer", 403), ("operate", 200)):
        with gateway.http(role) as http:
            assert http.post(pinned, json=BODY).status_code == status


PICKLES = ("application/vnd.bentoml+pickle", "application/pickle", "application/x-python-pickle")
NONE_PICKLED = b"\x80\x04N."


@pytest.mark.parametrize("content_type", PICKLES)
def test_no_route_of_a_worker_reads_pickles(closed: ServingProcess, content_type: str) -> None:
    """415 everywhere, on the host's own paths too, whatever key is shown."""
    paths = [*ROUTES, ("POST", "/v1/nothing"), ("GET", "/schema.json"), ("POST", "/")]
    with closed.http("admin") as http:
        for method, path in paths:
            headers = {"content-type": content_type}
            if GUARDED.get((method, path)) in ("infer", "label"):
                headers |= closed.authorization(GUARDED[method, path])
            answer = http.request(method, path, headers=headers, content=NONE_PICKLED)
            assert answer.status_code == 415, (method, path, answer.text)


def test_no_route_of_the_evaluator_reads_pickles(closed: ServingProcess) -> None:
    """Its socket is the host's own affair, and guarded like ours."""
    transport = httpx.HTTPTransport(uds=evaluator_socket(closed))
    with httpx.Client(transport=transport, base_url="http://evaluator") as http:
        assert http.get("/livez").status_code == 200
        for path in ("/livez", "/readyz", "/metrics", "/schema.json", "/", "/anything"):
            for content_type in PICKLES:
                headers = {"content-type": content_type}
                answer = http.post(path, headers=headers, content=NONE_PICKLED)
                assert answer.status_code == 415, path


def evaluator_socket(server: ServingProcess) -> str:
    """The Unix socket that the Evaluator's process listens on."""
    (path,) = {one.laddr for one in server.evaluator().net_connections("unix") if one.laddr}
    return str(path)


def test_no_process_of_ours_can_read_pickles() -> None:
    """The host's reader of pickles is gone as soon as our services are imported."""
    # In a process of its own, for that is where the host imports them.
    program = (
        "import gateway.service\n"
        "from _bentoml_impl.serde import ALL_SERDE\n"
        "print([name for name in ALL_SERDE if 'pickle' in name], len(ALL_SERDE) > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]", "True"]


def test_the_state_is_nobody_elses_business(closed: ServingProcess) -> None:
    """No file below the state folder can be read by another account of the machine."""
    assert closed.state.stat().st_mode & 0o077 == 0
    beneath = [path for path in closed.state.rglob("*") if path.stat().st_mode & 0o077]
    assert not beneath, beneath


def test_only_loopback_is_listened_on(closed: ServingProcess) -> None:
    """Neither the gateway nor what supervises it can be reached from another machine."""
    family = [psutil.Process(closed.process.pid), *closed.descendants()]
    listening = [
        one.laddr.ip for process in family for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]  # fmt: skip
    assert listening and set(listening) == {"127.0.0.1"}
