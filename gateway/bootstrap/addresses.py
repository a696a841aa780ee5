"""Whether an address can be listened on: asked once, before workers share its port.

A worker cannot find out. Sharing means that any process of the same account may listen there
too, and the kernel would deal the connections of two gateways between them.
"""

from __future__ import annotations

import socket

from gateway.errors import InvalidSetting


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there. Raises InvalidSetting for a host that is not this machine's."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidSetting(f"AUDITION_GRPC_HOST: {host}: {error}") from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # Connections that have ended keep a port for a minute; they are nobody's.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def require_free(host: str, port: int) -> None:
    """Raise InvalidSetting where somebody listens already."""
    if not is_free(host, port):
        raise InvalidSetting(
            f"AUDITION_GRPC_PORT: {host}:{port} cannot be listened on, or another process does; "
            "choose another port, or 0 for no gRPC"
        )
