"""The end of a worker: unready first, so that traffic goes elsewhere, and stopped after that.

Rules: SIGTERM begins it. For `drain_s` the worker answers as before and says that it is not
ready; then the server's own handler runs, which finishes what is under way. A second SIGTERM
cuts the wait short.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType


class Leave:
    """Whether a worker is about to stop."""

    def __init__(self, *, drain_s: float) -> None:
        self._drain_s = drain_s
        self.has_begun = False

    def watch(self) -> None:
        """Stand in front of the server's handler; on the event loop that serves."""
        if threading.current_thread() is not threading.main_thread():
            return  # only there are signals heard, and only there does the server hear them
        before = signal.getsignal(signal.SIGTERM)
        if not callable(before):
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            is_first, self.has_begun = not self.has_begun, True
            if is_first and self._drain_s > 0:
                loop.call_soon_threadsafe(loop.call_later, self._drain_s, before, number, None)
            else:
                before(number, frame)

        signal.signal(signal.SIGTERM, begin)
