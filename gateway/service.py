"""The BentoML services: the entry `Gateway` and its dependency `Evaluator`.

BentoML hosts: it starts, supervises and restarts the processes, binds the port and serves
`/metrics`. `HostedService` puts our ASGI application in front of its per-request stack, which
costs ten times what a request of ours does (docs/decisions/0001-front-of-bentoml.md).
"""

from __future__ import annotations

import os
from typing import Any

import bentoml
from _bentoml_impl.serde import ALL_SERDE
from _bentoml_sdk import Service

from gateway.settings import load_settings

# In a container BentoML leaves a dead worker dead: the rest would go on at a fraction of the
# capacity, with `/readyz` at 200, and an Evaluator would be missed by nobody.
os.environ.pop("BENTOML_CONTAINERIZED", None)

# No route of ours reads pickles; nobody else in this process shall either.
ALL_SERDE.pop("application/vnd.bentoml+pickle", None)

_HOST_CONFIG: dict[str, Any] = {
    "metrics": {"enabled": True},
    "logging": {"access": {"enabled": False}},
    # A stopped Evaluator must not make the gateway unready.
    "runner_probe": {"enabled": False},
}


class HostedService(Service[Any]):  # type: ignore[misc]
    """A service whose requests go to our application before BentoML's own."""

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: FBT001, FBT002 - BentoML's signature
        """The worker's ASGI application."""
        from gateway.bootstrap.worker import WorkerApp  # noqa: PLC0415 - no other process needs it
        from gateway.protocols.direct import install  # noqa: PLC0415 - as above

        worker = WorkerApp(load_settings(), super().to_asgi(is_main))
        install(worker.inference)
        return worker


class GuardedService(Service[Any]):  # type: ignore[misc]
    """A service that has no routes of ours; BentoML's own shall refuse pickles too."""

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: FBT001, FBT002 - BentoML's signature
        """The process's ASGI application."""
        from gateway.protocols.app import without_pickles  # noqa: PLC0415 - as above

        return without_pickles(super().to_asgi(is_main))


@bentoml.service(service_class=GuardedService, workers=1, **_HOST_CONFIG)
class Evaluator:
    """Reads the journals: shadow, archive, judge. One process, restarted when it dies."""

    def __init__(self) -> None:
        from gateway.bootstrap.evaluator import EvaluatorHost  # noqa: PLC0415 - likewise

        self._host = EvaluatorHost(load_settings())
        self._host.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def shutdown(self) -> None:
        """End after the work under way."""
        self._host.stop()


@bentoml.service(
    service_class=HostedService,
    workers=int(os.environ.get("AUDITION_WORKERS", "1")),
    **_HOST_CONFIG,
)
class Gateway:
    """Answers inference requests and appends each to the journal."""

    evaluator = bentoml.depends(Evaluator)

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def deploy() -> None:
        """Run once by BentoML before it starts workers, whichever command serves."""
        from gateway.bootstrap.prepare import prepare  # noqa: PLC0415 - likewise

        prepare(load_settings())
