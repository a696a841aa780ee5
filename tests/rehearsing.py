"""A state folder with earlier traffic of one endpoint, made without a server.

`Traffic` draws requests of one to three rows from a seed and knows each row's truth, so that a
test can compute with numpy what a rehearsal over them must say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gateway.archive.writer import ArchiveWriter
from gateway.bootstrap.prepare import prepare
from gateway.bootstrap.rehearsal import Asked, rehearse
from gateway.core.records import LabelRow
from gateway.rehearsal import Rehearsal
from gateway.settings import Settings
from gateway.stores.sql import SqlStore, make_store
from tests.archive.records import label, labels, prediction, tensor
from tests.synthetic_models import logistic, write_endpoint

S = 1_000_000
NOON_US = 1_700_000_000 * S
WEIGHTS = {"1": {"x": 1.0, "y": 4.0}, "2": {"x": 4.0, "y": 1.0}, "3": {"y": 1.0, "z": 1.0}}
MATURITY_S = 100

Arrays = np.ndarray[Any, np.dtype[Any]]


def prepared(folder: Path, settings: Mapping[str, object] | None = None) -> Path:
    """The folder, with models and a state that nobody asked anything of; it may be copied."""
    models = {version: logistic(weights) for version, weights in WEIGHTS.items()}
    given = {"champion": "1", "labels": {"maturity": MATURITY_S}, **(settings or {})}
    write_endpoint(folder / "models", "flights", models, given)
    prepare(_settings(folder))
    return folder


def _settings(folder: Path) -> Settings:
    return Settings(
        state=folder / "state", models=folder / "models", admin_key="k" * 40, grpc_port=0
    )


class Place:
    """A prepared state folder, and the models of endpoint `flights` with champion 1."""

    def __init__(self, folder: Path) -> None:
        """Below `folder`, which `prepared` made."""
        self.models = folder / "models"
        self.settings = _settings(folder)
        self.archive = ArchiveWriter(self.settings.state / "archive")
        self._end = 0

    def store(self) -> SqlStore:
        """The control store."""
        return make_store(self.settings.store_url)

    def append(self, record: Any) -> None:
        """One more record of the only journal."""
        self._end += 100
        self.archive.append("w1", self._end, record)

    def rehearse(self, version: str = "2", endpoint: str = "flights", **asked: Any) -> Rehearsal:
        """A rehearsal as the command runs it."""
        given = {"since": None, "until": None, "limit_rows": None, **asked}
        wish = Asked(endpoint=endpoint, version=version, **given)
        return rehearse(self.settings, wish, lambda _done, _total: None)

    def contents(self) -> dict[str, str]:
        """Every file of the state folder with the digest of what is in it."""
        return {
            str(path.relative_to(self.settings.state)): hashlib.sha256(
                path.read_bytes()
            ).hexdigest()
            for path in sorted(self.settings.state.rglob("*"))
            if path.is_file()
        }


class Traffic:
    """Requests that champion 1 answered, all of them labelled in time but for some."""

    def __init__(self, place: Place, *, requests: int, seed: int = 7, entities: int = 0) -> None:
        self._place = place
        random = np.random.default_rng(seed)
        digest = place.store().rollout("flights").versions["1"].digest
        self.x, self.y, self.label, self.request = [], [], [], []
        for number in range(requests):
            rows = int(random.integers(1, 4))
            x, y = random.normal(size=(2, rows, 1)).astype(np.float32)
            truth = (x.ravel() + random.normal(0, 0.5, rows) > 0).astype(float)
            at_us = NOON_US + number * S
            name = f"{number + 1:032x}"
            score = scores("1", x, y).reshape(rows, 1)
            place.append(
                prediction(
                    name,
                    accepted_at_us=at_us,
                    rows=rows,
                    epoch=1 + number % 3,
                    digest=digest,
                    entity=f"e{number % entities}" if entities else None,
                    inputs=[tensor("x", x), tensor("y", y)],
                    outputs=[tensor("score", score)],
                )
            )
            kept = random.uniform(size=rows) > 0.1
            self._send(name, truth, kept, received_at_us=at_us + 10 * S)
            self.x += list(x.ravel())
            self.y += list(y.ravel())
            self.label += [t if k else np.nan for t, k in zip(truth, kept, strict=True)]
            self.request += [number] * rows
        place.archive.flush()

    def _send(self, name: str, truth: Arrays, kept: Arrays, *, received_at_us: int) -> None:
        """The opposite first and the truth as its correction; nothing in time for the others."""
        for value, later_us in ((1 - truth, 0), (truth, 5 * S)):
            rows = [label(name, one, row=row) for row, one in enumerate(value) if kept[row]]
            self._labels(rows, received_at_us + later_us)
        late = [label(name, one, row=row) for row, one in enumerate(truth) if not kept[row]]
        self._labels(late, received_at_us + MATURITY_S * S)

    def _labels(self, rows: list[LabelRow], received_at_us: int) -> None:
        if rows:
            self._place.append(labels(*rows, received_at_us=received_at_us))

    def arrays(self) -> tuple[Arrays, Arrays, Arrays]:
        """P(class 1) of champion and version 2, and the final label, NaN without one."""
        x, y = np.array(self.x), np.array(self.y)
        return scores("1", x, y), scores("2", x, y), np.array(self.label)


def scores(version: str, x: Arrays, y: Arrays) -> Arrays:
    """What a version answers, in float32, of any shape of rows."""
    weights = WEIGHTS[version]
    total = np.float32(weights["x"]) * x.ravel() + np.float32(weights["y"]) * y.ravel()
    return (1 / (1 + np.exp(-total))).astype(np.float32)
