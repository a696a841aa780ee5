"""A process that archives, compacts and deletes until it is killed: `python -m ... FOLDER`.

It goes on where the manifest says, as the Evaluator does, and never waits between steps.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from gateway.archive.writer import ArchiveWriter
from tests.archive.records import label, labels, prediction, shadow


def main(folder: Path) -> None:
    """Flush one record of each dataset at a time, and merge whatever can be merged."""
    writer = ArchiveWriter(folder)
    for number in itertools.count(writer.covered.get("w", 0) + 1):
        name = f"{number:032x}"
        writer.append("w", number, prediction(name, accepted_at_us=number, rows=1 + number % 3))
        writer.append("s", number, shadow(name))
        writer.append("l", number, labels(label(name, 1.0)))
        writer.flush()
        while writer.compact(at_least=4, at_us=number):
            pass
        writer.remove_retired(before_us=number - 10)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
