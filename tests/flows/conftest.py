"""Gateways for the flows. One serves most of them: an endpoint each is as good as a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows import endpoints
from tests.serving_process import ServingProcess, start_server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> Iterator[None]:
    """What the gateways of a failed test wrote stands beside its failure."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, ServingProcess):
                report.sections.append((f"log of {name}", value.log()))
    return report


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of the shared gateway: an endpoint for each flow."""
    folder = tmp_path_factory.mktemp("models")
    endpoints.write_all(folder)
    return folder


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[ServingProcess]:
    """Two workers and an Evaluator, as `audition serve` starts them on loopback."""
    server = start_server(tmp_path_factory.mktemp("gateway"), models)
    yield server
    server.stop()
