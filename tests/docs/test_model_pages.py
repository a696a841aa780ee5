"""The pages about models are run: one server serves the models of all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.bootstrap.prepare import prepare
from gateway.cli.proposal import proposed_against, proposed_alone, rendered
from gateway.core.proposal import Proposal
from gateway.runtimes.inspection import Inspection, inspect_files
from gateway.runtimes.repository import MODEL_FILE
from gateway.settings import Settings, parse_endpoint_file
from gateway.stores.sql import open_store
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
    settings = Settings(state=folder / "state", models=folder / "models", admin_key="k" * 40)
    umask = os.umask(0o022)
    prepare(settings)
    os.umask(umask)
    store = open_store(settings.store_url)
    return {name: sorted(store.rollout(name).versions) for name in store.endpoints()}


def test_every_proposal_is_one_that_the_gateway_accepts(served: Served, tmp_path: Path) -> None:
    """For each model of the pages, alone and as a challenger: saved as it stands, it is served."""
    firsts = sorted((served.folder / "models").glob(f"*/1/{MODEL_FILE}"))
    assert len(firsts) >= len(PAGES)
    for first in firsts:
        second, endpoint = first.parent.with_name("2") / MODEL_FILE, first.parent.parent.name
        one, two = (
            found for found in inspect_files([first, second]) if isinstance(found, Inspection)
        )
        alone = tmp_path / "models" / f"{endpoint}-alone"
        _save(alone, [first], proposed_alone(one), one)
        against = tmp_path / "models" / f"{endpoint}-against"
        _save(against, [first, second], proposed_against(two, first, version="2"), two)
        by_folder = proposed_against(two, first.parent.parent, version="3")
        written = rendered("model.onnx", two, by_folder)
        parse_endpoint_file(written, source=endpoint)
    expected = {}
    for first in firsts:
        expected[f"{first.parent.parent.name}-alone"] = ["1"]
        expected[f"{first.parent.parent.name}-against"] = ["1", "2"]
    assert _prepared(tmp_path) == expected
