"""SIGTERM: unready at once, stopped when the wait is over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from gateway.bootstrap.leave import Leave


@pytest.fixture
def told() -> Iterator[list[int]]:
    """The signals that the server's own handler hears."""
    heard: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    yield heard
    signal.signal(signal.SIGTERM, before)


async def _signalled(leave: Leave, times: int = 1) -> None:
    leave.watch()
    assert not leave.has_begun
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0)
    assert leave.has_begun


def test_the_server_is_told_after_the_wait(told: list[int]) -> None:
    """Not before it, and once."""

    async def script() -> None:
        await _signalled(Leave(drain_s=0.2))
        assert told == []
        async with asyncio.timeout(30):
            while not told:
                await asyncio.sleep(0.01)

    asyncio.run(script())
    assert told == [signal.SIGTERM]


def test_without_a_wait_the_server_is_told_at_once(told: list[int]) -> None:
    """The default: nobody balances load in front of a laptop."""
    asyncio.run(_signalled(Leave(drain_s=0)))
    assert told == [signal.SIGTERM]


def test_a_second_signal_cuts_the_wait_short(told: list[int]) -> None:
    """Whoever insists is heard."""
    asyncio.run(_signalled(Leave(drain_s=60), times=2))
    assert told == [signal.SIGTERM]
