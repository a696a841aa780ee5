"""What a metric is: a loss in [0, 1] for each row, and how far it can go without a label.

Rules: lower is better, always; a better-is-higher score is turned round in its own file.
A loss is a function of one row. It never sees another row, a time or a failure; what a
failure costs is the observation's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.arrays import Floats
from gateway.core.predictions import Reads
from gateway.core.routes import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric; every function is elementwise over float64[n].

    loss(prediction, label): in [0, 1].
    extremes(prediction): the least and the greatest loss over the labels possible.
    bounds(champion, challenger): the least and the greatest loss(champion) −
    loss(challenger) over the labels possible; tighter than `extremes`, as both face the
    same label.
    """

    name: str
    tasks: frozenset[Task]
    reads: Reads
    loss: Callable[[Floats, Floats], Floats]
    extremes: Callable[[Floats], tuple[Floats, Floats]]
    bounds: Callable[[Floats, Floats], tuple[Floats, Floats]]
