"""`audition labels`: the truth about earlier predictions, from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gateway.cli.session import AsJson, Session, note, show

app = typer.Typer(help="Send labels to the gateway.", no_args_is_help=True)

_BATCH_ROWS = 10_000
_BATCH_BYTES = 4 << 20
_SHOWN_INVALID = 10


class Batch(msgspec.Struct):
    """Consecutive lines of a file; `numbers` are their places in it, from 1."""

    lines: list[bytes]
    numbers: list[int]
    end_bytes: int


@app.callback()
def group() -> None:
    """Send labels to the gateway."""


@app.command("import")
def import_labels(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An NDJSON file.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Send a file of labels, one JSON object a line. Needs a key of role label.

    Sending a file again changes nothing. Exits 1 if a row was invalid; the others are kept.

    `audition labels import labels.ndjson`
    """
    from gateway.cli.views import line_view, progress_bar  # noqa: PLC0415

    session: Session = context.obj
    counts = {"accepted": 0, "duplicate": 0, "invalid": 0}
    with session.client() as client, progress_bar(file.name, file.stat().st_size) as advance:
        for batch in batches(file):
            answer = client.post_lines("/v1/labels", b"\n".join(batch.lines))
            _name_invalid(answer, batch, shown=counts["invalid"])
            for kind in counts:
                counts[kind] += answer[kind]
            advance(batch.end_bytes)
    text = "accepted {accepted}, duplicate {duplicate}, invalid {invalid}"
    show(counts, line_view(text), as_json=as_json)
    if counts["invalid"]:
        raise typer.Exit(1)


def batches(
    file: Path, *, rows: int = _BATCH_ROWS, limit_bytes: int = _BATCH_BYTES
) -> Iterator[Batch]:
    """The lines of a file in order, blank ones left out, in batches within both limits."""
    batch, size, end = Batch([], [], 0), 0, 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            row = line.strip()
            if batch.lines and (len(batch.lines) >= rows or size + len(row) > limit_bytes):
                yield batch
                batch, size = Batch([], [], end), 0
            end += len(line)
            batch.end_bytes = end
            if row:
                batch.lines.append(row)
                batch.numbers.append(number)
                size += len(row) + 1
    if batch.lines:
        yield batch


def _name_invalid(
    answer: dict[str, int | list[dict[str, object]]], batch: Batch, *, shown: int
) -> None:
    invalid = answer.get("invalid_rows", [])
    assert isinstance(invalid, list)
    for row in invalid[: max(0, _SHOWN_INVALID - shown)]:
        index = row["index"]
        assert isinstance(index, int)
        note(f"line {batch.numbers[index]}: {row['reason']}")
