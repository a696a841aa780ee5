"""Clients that others wrote, as they come, against a real gateway.

The synchronous tritonclient has a module of its own (test_inference.py). Two of these clients
pin packages that do not go with ours, so each runs in an environment of its own: `make clients`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.docs.pages import Block, blocks
from tests.flows.endpoints import CLIENTS
from tests.serving_process import PATIENCE_S, ServingProcess, environment

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "clients"
COLUMNS = {
    "fp32": np.array([[1.5], [-0.1]], np.float32),
    "int64": np.array([[-(2**63)], [2**63 - 1]], np.int64),
    "bytes": np.array([["naïve".encode()], [b""]], object),
}
TEXTS = ["naïve", ""]
REQUEST = {
    "id": "mine",
    "inputs": [
        {"name": "in_fp32", "shape": [2, 1], "datatype": "FP32", "data": [1.5, -0.1]},
        {"name": "in_int64", "shape": [2, 1], "datatype": "INT64", "data": [-(2**63), 2**63 - 1]},
        {"name": "in_bytes", "shape": [2, 1], "datatype": "BYTES", "data": TEXTS},
    ],
}
INFER = f"/v2/models/{CLIENTS}/infer"


def _told(program: str) -> str:
    """A program of a client's environment; `make test` has made it before."""
    client, name = program.split("/")
    path = ROOT / f".venv-{client}" / "bin" / name
    assert path.exists(), f"{path} is not there; run `make clients`"
    return str(path)


def _run(*command: str, folder: Path = ROOT, env: Mapping[str, str] = MappingProxyType({})) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _outputs(answer: dict[str, Any]) -> dict[str, list[Any]]:
    return {one["name"]: one["data"] for one in answer["outputs"]}


# -- tritonclient, asynchronous -------------------------------------------------------------------


def _aio(gateway: ServingProcess, work: Any) -> Any:
    async def talk() -> Any:
        url = gateway.url.removeprefix("http://")
        async with InferenceServerClient(url, conn_timeout=PATIENCE_S) as client:
            return await work(client)

    return asyncio.run(talk())


def _inputs(*, binary: bool) -> list[InferInput]:
    datatypes = {"fp32": "FP32", "int64": "INT64", "bytes": "BYTES"}
    return [
        InferInput(f"in_{name}", [2, 1], datatypes[name]).set_data_from_numpy(
            column, binary_data=binary
        )
        for name, column in COLUMNS.items()
    ]


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_the_asynchronous_client_infers(
    gateway: ServingProcess,
    binary: bool,  # noqa: FBT001 - a parameter of the test
    compression: str | None,
) -> None:
    """Bodies as JSON or binary, packed both ways, a chosen output and a pinned version."""

    async def infer(client: InferenceServerClient) -> Any:
        return await client.infer(
            CLIENTS,
            _inputs(binary=binary),
            model_version="1",
            outputs=[InferRequestedOutput(f"out_{n}", binary_data=binary) for n in COLUMNS],
            request_id="mine" * 60,
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )

    result = _aio(gateway, infer)
    answer = result.get_response()
    assert (answer["id"], answer["model_version"]) == ("mine" * 60, "1")
    for name in ("fp32", "int64"):
        assert result.as_numpy(f"out_{name}").tobytes() == COLUMNS[name].tobytes()
    texts = result.as_numpy("out_bytes").ravel().tolist()
    assert [t.decode() if isinstance(t, bytes) else t for t in texts] == TEXTS


def test_the_asynchronous_client_looks_around(gateway: ServingProcess) -> None:
    """Health, metadata, and an error in our words."""

    async def look(client: InferenceServerClient) -> None:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready(CLIENTS, "1")
        assert not await client.is_model_ready("nobody")
        assert (await client.get_server_metadata())["name"] == "audition"
        assert (await client.get_model_metadata(CLIENTS))["versions"] == ["1"]
        with pytest.raises(InferenceServerException, match="in_bytes") as refused:
            await client.infer(CLIENTS, _inputs(binary=True)[:2])
        assert refused.value.status() == "400"

    _aio(gateway, look)


# -- plain HTTP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", ["", "gzip", "deflate", "gzip;q=0.2, deflate", "br, identity"])
def test_httpx_reads_an_answer_however_it_is_packed(gateway: ServingProcess, accepted: str) -> None:
    """The library unpacks by itself; what it does not ask for it is not sent."""
    many = {"name": "in_fp32", "shape": [400, 1], "datatype": "FP32", "data": [0.5] * 400}
    numbers = {"name": "in_int64", "shape": [400, 1], "datatype": "INT64", "data": [7] * 400}
    texts = {"name": "in_bytes", "shape": [400, 1], "datatype": "BYTES", "data": ["é"] * 400}
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=PATIENCE_S) as client:
        answer = client.post(
            INFER,
            json={"inputs": [many, numbers, texts]},
            headers={"accept-encoding": accepted},
        )
    coding = {"gzip": "gzip", "deflate": "deflate", "gzip;q=0.2, deflate": "deflate"}
    assert answer.headers.get("content-encoding") == coding.get(accepted)
    assert _outputs(answer.json())["out_bytes"] == ["é"] * 400


def test_curl_posts_json_and_asks_for_compression(gateway: ServingProcess, tmp_path: Path) -> None:
    """`--data` names a form as content type; `--compressed` asks for what curl can unpack."""
    curl = shutil.which("curl")
    assert curl is not None, "install curl"
    (tmp_path / "request.json").write_text(json.dumps(REQUEST | {"id": "mine" * 60}))
    options = ("--silent", "--fail-with-body", "--data", f"@{tmp_path}/request.json")
    plain = json.loads(_run(curl, *options, gateway.url + INFER))
    packed = json.loads(_run(curl, *options, "--compressed", gateway.url + INFER))
    for answer in (plain, packed):
        assert answer["id"] == "mine" * 60
        assert _outputs(answer)["out_int64"] == [-(2**63), 2**63 - 1]
        assert _outputs(answer)["out_bytes"] == TEXTS


# -- in environments of their own ------------------------------------------------------------------


def test_kserves_client_infers_and_looks_around(gateway: ServingProcess) -> None:
    """`InferenceRESTClient`: health, readiness, JSON and binary, the text of an error."""
    python = _told("kserve/python")
    said = json.loads(_run(python, str(HERE / "kserve_client.py"), gateway.url, CLIENTS))
    assert said["live"] and said["ready"] and said["model_ready"]
    for form in ("json", "binary"):
        answer = said[form]
        assert (answer["id"], answer["model"]) == ("mine", CLIENTS)
        outputs = answer["outputs"]
        assert np.float32(outputs["out_fp32"]).tobytes() == COLUMNS["fp32"].tobytes()
        assert outputs["out_int64"] == [-(2**63), 2**63 - 1]
        assert outputs["out_bytes"] == TEXTS
    assert "nobody" in said["error"] and "404" in said["error"]


@pytest.mark.parametrize("form", [(), ("--binary-data",)], ids=["json", "binary"])
def test_mlserver_infers_from_a_file(
    gateway: ServingProcess, tmp_path: Path, form: tuple[str, ...]
) -> None:
    """`mlserver infer`: a request a line, answered in micro-batches, and a line for each."""
    program = _told("mlserver/mlserver")
    lines = [json.dumps(REQUEST | {"id": str(number)}) for number in range(5)]
    (tmp_path / "requests").write_text("\n".join(lines) + "\n")
    arguments = ("-u", gateway.url.removeprefix("http://"), "-m", CLIENTS, "-s", "2", *form)
    files = ("-i", str(tmp_path / "requests"), "-o", str(tmp_path / "answers"))
    _run(program, "infer", *arguments, *files)
    answers = [json.loads(line) for line in (tmp_path / "answers").read_text().splitlines()]
    assert sorted(answer["parameters"]["batch_index"] for answer in answers) == list(range(5))
    for answer in answers:
        outputs = _outputs(answer)
        assert outputs["out_int64"] == [-(2**63), 2**63 - 1]
        assert [str(text) for text in outputs["out_bytes"]] == TEXTS


# -- the page -----------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "clients.md"


def _block_id(block: Block) -> str:
    return f"line {block.line}"


@pytest.mark.parametrize(
    "block", [block for block in blocks(PAGE) if "test" in block.words], ids=_block_id
)
def test_the_page_of_the_clients_does_what_it_says(
    gateway: ServingProcess, tmp_path: Path, block: Block
) -> None:
    """Each block as it stands, but for the port; in the client's environment if it has one."""
    python = Path(_told(f"{block.words[1]}/python") if len(block.words) > 1 else sys.executable)
    row = {"name": "features", "shape": [1, 30], "datatype": "FP32", "data": [0.5] * 30}
    (tmp_path / "request.json").write_text(json.dumps({"inputs": [row]}))
    script = tmp_path / "block"
    script.write_text(block.text.replace("127.0.0.1:3000", gateway.url.removeprefix("http://")))
    shell = ("bash", "-euo", "pipefail", str(script))
    command = (str(python), str(script)) if block.language == "python" else shell
    paths = f"{python.parent}:{os.environ['PATH']}"
    said = _run(*command, folder=tmp_path, env={"PATH": paths})
    answers = tmp_path / "answers.jsonl"
    if answers.exists():
        said = answers.read_text()
        assert said.count("probabilities") == 3
    assert said.strip()
