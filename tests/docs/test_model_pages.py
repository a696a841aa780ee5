"""The pages about models are run: one server serves the models of all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.bootstrap.prepare import prepare
from gateway.cli.proposal import proposed_alone, proposed_beside, rendered
from gateway.core.proposal import Proposal
from gateway.endpoint_file import load_endpoint_file, parse_endpoint_file
from gateway.runtimes.inspection import Inspection, inspect_files
from gateway.runtimes.repository import MODEL_FILE
from gateway.settings import Settings
from gateway.stores.sql import make_store
from tests.docs.pages import DOCS
from tests.docs.running import environment, gateway, halves, run

PAGES = sorted(page for page in (DOCS / "models").glob("*.md") if page.name != "README.md")
pytestmark = pytest.mark.timeout(900)


class Served:
    """The folder in which the pages were built, and how to speak to their server."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every page up to its server, and then the server that all of them start alike."""
    folder = tmp_path_factory.mktemp("pages")
    scripts = [halves(page) for page in PAGES]
    (server,) = {command for _, _, command in scripts}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda script: run(script[0], folder, environment()), scripts))
    with gateway(server, folder) as env:
        yield Served(folder, env)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_does_what_it_says(served: Served, page: Path) -> None:
    """Requests, answers and a comparison in shadow, as they stand there."""
    _, after, _ = halves(page)
    run(after, served.folder, served.env)


def _save(folder: Path, files: list[Path], proposal: Proposal, found: Inspection) -> None:
    """An endpoint of these version files, with the proposal as its file."""
    for file in files:
        (folder / file.parent.name).mkdir(parents=True)
        (folder / file.parent.name / MODEL_FILE).write_bytes(file.read_bytes())
    (folder / "endpoint.yaml").write_text(rendered("model.onnx", found, proposal))


def _prepared(folder: Path) -> dict[str, list[str]]:
    """What a gateway makes of the repository: endpoint → versions. Raises what it refuses."""
    settings = Settings(
        state=folder / "state", models=folder / "models", admin_key="k" * 40, grpc_port=0
    )
    umask = os.umask(0o022)
    prepare(settings)
    os.umask(umask)
    store = make_store(settings.store_url)
    return {name: sorted(store.rollout(name).versions) for name in store.endpoints()}


def test_every_proposal_is_one_that_the_gateway_accepts(served: Served, tmp_path: Path) -> None:
    """For each model of the pages, alone and as a challenger: saved as it stands, it is served."""
    firsts = sorted((served.folder / "models").glob(f"*/1/{MODEL_FILE}"))
    assert len(firsts) >= len(PAGES)
    files = [file for first in firsts for file in (first, first.parent.with_name("2") / MODEL_FILE)]
    found = dict(zip(files, inspect_files(files), strict=True))
    expected = {}
    for first, second in zip(files[::2], files[1::2], strict=True):
        one, two = found[first], found[second]
        assert isinstance(one, Inspection) and isinstance(two, Inspection)
        alone, against = (f"{first.parent.parent.name}-{how}" for how in ("alone", "against"))
        _save(tmp_path / "models" / alone, [first], proposed_alone(one), one)
        beside = proposed_beside(two, one, {}, champion="1", version="2")
        _save(tmp_path / "models" / against, [first, second], beside, two)
        expected |= {alone: ["1"], against: ["1", "2"]}
    assert _prepared(tmp_path) == expected


def test_a_proposal_for_an_endpoint_keeps_what_its_file_says(served: Served) -> None:
    """By the endpoint's folder: what is there stays, and the new version has a section."""
    folder = served.folder / "models" / "iris"
    second = folder / "2" / MODEL_FILE
    text = run(
        f"audition models inspect {second} --against {folder} --version 7", folder, served.env
    )
    proposed = parse_endpoint_file(text, source="proposal")
    written = load_endpoint_file(folder / "endpoint.yaml")
    assert proposed.prediction == written.prediction and proposed.labels == written.labels
    assert sorted(proposed.versions) == ["2", "7"]
    assert proposed.versions["2"] == written.versions["2"]
    assert proposed.versions["7"].outputs["probabilities"].source == "chances"
