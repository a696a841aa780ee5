"""Starting the server: BentoML hosts our services, under an environment made from settings."""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path

from gateway.bootstrap.addresses import is_free
from gateway.settings import Settings


def serve(*, host: str, port: int, workers: int, settings: Settings) -> None:
    """Serve until a signal: BentoML with our services, which prepare the state first."""
    # Before anything is made: BentoML puts its home, and with it the state folder, there first.
    os.umask(0o077)
    os.environ.update(_environment(settings, workers))
    os.environ["AUDITION_GRPC_PORT"] = str(_grpc_port(settings, http_port=port))
    if is_loopback(host) and is_loopback(settings.grpc_host):
        os.environ.setdefault("AUDITION_OPEN_INFERENCE", "true")
    # BentoML reads the environment when it is imported, and the service reads `workers` from it.
    from _bentoml_impl.server import serve_http  # noqa: PLC0415

    from gateway.service import Gateway  # noqa: PLC0415

    Gateway.inject_config()  # type: ignore[attr-defined]
    server = serve_http(
        "gateway.service:Gateway",
        working_dir=str(Path(__file__).parent.parent),
        host=host,
        port=port,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=20,
    )
    server.stop()


def _grpc_port(settings: Settings, *, http_port: int) -> int:
    """The port that is asked for; the default one only if it is free."""
    port = settings.grpc_port
    if "grpc_port" in settings.model_fields_set or not port:
        return port
    if port != http_port and is_free(settings.grpc_host, port):
        return port
    sys.stderr.write(
        f"No gRPC: port {port} is in use; AUDITION_GRPC_PORT names another, 0 means none.\n"
    )
    return 0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost may be any."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _environment(settings: Settings, workers: int) -> dict[str, str]:
    state = settings.state.absolute()
    return {
        "AUDITION_STATE": str(state),
        "AUDITION_MODELS": str(settings.models.absolute()),
        "AUDITION_WORKERS": str(workers),
        # Each server wipes the metrics folder below it, so two servers must not share one.
        "BENTOML_HOME": str(state / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        # numpy's own threads would only wake up to find nothing to do.
        "OPENBLAS_NUM_THREADS": "1",
    }
