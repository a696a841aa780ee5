"""Whether a port can be had, asked before workers share it."""

from __future__ import annotations

import socket

import pytest

from gateway.bootstrap.addresses import is_free, require_free
from gateway.errors import InvalidSetting


def test_a_port_that_somebody_shares_is_not_free() -> None:
    """SO_REUSEPORT would let us in beside them, and split the connections between us."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        with pytest.raises(InvalidSetting, match=f"AUDITION_GRPC_PORT: 127.0.0.1:{port} "):
            require_free("127.0.0.1", port)
    assert is_free("127.0.0.1", port)


def test_an_address_of_nobody_is_named() -> None:
    """With the variable that says it."""
    with pytest.raises(InvalidSetting, match=r"AUDITION_GRPC_HOST: no-such-host\.invalid"):
        is_free("no-such-host.invalid", 3001)
