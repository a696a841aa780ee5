"""Sending the rows of a file in batches: one is answered while the next is read.

Rules: one request at a time, so that an import leaves workers to those who ask for predictions;
rows are counted when their answer is here, because until then nobody knows that they are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from gateway.cli.label_files import Row
from gateway.cli.label_rejects import Rejects
from gateway.client import Client, Document

_BATCH_ROWS = 5_000
_BATCH_BYTES = 1 << 20


class Import:
    """Sends rows; `counts` and `rows` say what came of those that were answered."""

    def __init__(
        self, client: Client, rejects: Rejects, advance: Callable[[int, int], None]
    ) -> None:
        """`advance` is called with the bytes and the rows done so far."""
        self.counts = {"accepted": 0, "duplicate": 0, "invalid": 0}
        self.rows = 0
        self._client = client
        self._rejects = rejects
        self._advance = advance

    def run(self, rows: Iterable[Row]) -> None:
        """Send all rows. Raises Refused or Unreachable where the gateway takes no more."""
        waiting: tuple[list[Row], Future[Document]] | None = None
        with ThreadPoolExecutor(1) as sender:
            for batch in batches(rows):
                answer = sender.submit(self._post, [row for row in batch if row.sent])
                if waiting is not None:
                    self._settle(*waiting)
                waiting = batch, answer
            if waiting is not None:
                self._settle(*waiting)

    def _post(self, rows: list[Row]) -> Document:
        if not rows:
            return {"accepted": 0, "duplicate": 0, "invalid": 0, "invalid_rows": []}
        return self._client.post_lines("/v1/labels", b"\n".join(row.sent for row in rows))

    def _settle(self, batch: list[Row], answered: Future[Document]) -> None:
        answer = answered.result()
        self.rows += len(batch)
        for kind in self.counts:
            self.counts[kind] += answer[kind]
        self.counts["invalid"] += sum(not row.sent for row in batch)
        self._name([row for row in batch if row.sent], answer)
        self._rejects.add(row for row in batch if row.reason)
        self._advance(batch[-1].end_bytes, self.rows)

    def _name(self, sent: list[Row], answer: Document) -> None:
        """Note why rows were refused. An answer names no more than so many: ask for the rest.

        To send a label again changes nothing, so what is asked twice is counted once.
        """
        named = answer["invalid_rows"]
        for one in named:
            sent[one["index"]].reason = one["reason"]
        if not self._rejects.wants_all or not 0 < len(named) < answer["invalid"]:
            return
        rest = sent[named[-1]["index"] + 1 :]
        for start in range(0, len(rest), len(named)):
            part = rest[start : start + len(named)]
            self._name(part, self._post(part))


def batches(
    rows: Iterable[Row], *, most: int = _BATCH_ROWS, limit_bytes: int = _BATCH_BYTES
) -> Iterator[list[Row]]:
    """The rows in order, in batches within both limits; a row alone may be larger."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and (len(batch) >= most or size + len(row.sent) > limit_bytes):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row.sent) + 1
    if batch:
        yield batch
