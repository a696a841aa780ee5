"""Evidence: two integer histograms and the counts behind them.

Rules: integers only. Adding is commutative and associative, so evidence from any order,
any batches, any journals and any hosts is identical, not merely close. Nothing here knows
a level, a policy or a time.

One advantage d in [−1, 1] becomes floor(d · 65,536): rounded towards the side that helps
nobody. `benefit` holds the least advantages, `harm` the greatest ones with their sign
turned, each rounded down, so neither can overstate what it is asked about.
"""

from __future__ import annotations

import msgspec
import numpy as np

from gateway.core.arrays import Floats, Ints
from gateway.errors import InvalidInput

SCALE = 65_536


def quantise(advantages: Floats) -> Ints:
    """floor(d · SCALE) clipped to [−SCALE, SCALE], int64[n].

    The scale is a power of two, so the product is exact and the floor is that of the very
    float. Raises InvalidInput on NaN: a row without a number is not a row with a small one.
    """
    scaled = np.floor(np.asarray(advantages, dtype=np.float64) * SCALE)
    if np.isnan(scaled).any():
        raise InvalidInput("advantages", "NaN is no advantage; leave the row out or bound it")
    return np.clip(scaled, -SCALE, SCALE).astype(np.int64)


def entity_means(entity_codes: Ints, quantised: Ints) -> Ints:
    """One value per entity, in the order of the sorted codes: integer sum // rows, int64[k].

    Floor division rounds towards −1, so a mean never overstates. All rows of an entity
    must be in one call: the mean of means is another number.
    """
    _, codes, rows = np.unique(entity_codes, return_inverse=True, return_counts=True)
    sums = np.zeros(len(rows), dtype=np.int64)
    np.add.at(sums, codes, quantised)
    return sums // rows


class Histogram:
    """How often each quantised value occurred. Immutable; order-free by construction.

    `values` int64[b] strictly increasing in [−SCALE, SCALE]; `counts` int64[b], all > 0.
    """

    __slots__ = ("counts", "values")

    def __init__(self, values: Ints, counts: Ints) -> None:
        self.values, self.counts = values, counts
        self.values.flags.writeable = self.counts.flags.writeable = False

    @classmethod
    def of(cls, quantised: Ints) -> Histogram:
        """The histogram of int64[n]. Raises InvalidInput outside [−SCALE, SCALE]."""
        if len(quantised) and (quantised.min() < -SCALE or quantised.max() > SCALE):
            raise InvalidInput("quantised", f"a value outside [−{SCALE}, {SCALE}]; quantise first")
        counts = np.bincount(quantised + SCALE, minlength=2 * SCALE + 1)
        occupied = np.flatnonzero(counts)
        return cls(occupied.astype(np.int64) - SCALE, counts[occupied].astype(np.int64))

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both."""
        values = np.union1d(self.values, other.values)
        counts = np.zeros(len(values), dtype=np.int64)
        for part in (self, other):
            counts[np.searchsorted(values, part.values)] += part.counts
        return Histogram(values, counts)

    @property
    def n(self) -> int:
        """How many observations there are."""
        return int(self.counts.sum())

    def mean(self) -> float | None:
        """The average in [−1, 1]; None when there is nothing to average."""
        if self.n == 0:
            return None
        return int((self.values * self.counts).sum()) / (self.n * SCALE)

    def to_json(self) -> list[list[int]]:
        """[value, count] pairs by increasing value; the same evidence gives the same text."""
        pairs: list[list[int]] = np.column_stack((self.values, self.counts)).tolist()
        return pairs

    @classmethod
    def from_json(cls, pairs: list[list[int]]) -> Histogram:
        """The inverse of `to_json`. Raises InvalidInput where the pairs are none of ours."""
        try:
            bins = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)
        except (ValueError, OverflowError, TypeError) as error:
            raise InvalidInput(
                "bins", f"must be [value, count] pairs of integers: {error}"
            ) from None
        values, counts = bins[:, 0].copy(), bins[:, 1].copy()
        ordered = bool((np.diff(values) > 0).all() and (counts > 0).all())
        if not ordered or (len(values) and max(-values[0], values[-1]) > SCALE):
            raise InvalidInput(
                "bins", f"values must increase within [−{SCALE}, {SCALE}], counts be above 0"
            )
        return cls(values, counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return np.array_equal(self.values, other.values) and np.array_equal(
            self.counts, other.counts
        )

    def __hash__(self) -> int:
        return hash((self.values.tobytes(), self.counts.tobytes()))

    def __repr__(self) -> str:
        return f"Histogram(n={self.n}, bins={len(self.values)})"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What lies behind the histograms. Every field is a number of rows but `entities`."""

    rows: int = 0  # judged: in an observation, or left out for want of a label
    entities: int = 0  # observations: the n of both histograms
    labelled: int = 0
    unlabelled: int = 0  # no label within the maturity horizon
    left_out: int = 0  # unlabelled and, under missing_at_random, in no observation
    disagreements: int = 0  # both answered, not the same
    champion_failures: int = 0
    challenger_failures: int = 0
    after_window: int = 0  # later than their entity's window: in no observation
    excluded: int = 0  # pinned, overload and otherwise ineligible: in no observation
    expired: int = 0  # the journal let them go before the challenger saw them
    unrecorded: int = 0  # accepted by a worker, of any endpoint, and in no journal

    def merge(self, other: Counts) -> Counts:
        """The sums, field by field."""
        names = self.__struct_fields__
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a verdict reads of the traffic; adds up in any order."""

    benefit: Histogram
    harm: Histogram
    counts: Counts = Counts()

    def merge(self, other: Evidence) -> Evidence:
        """The evidence of both; their entities must be disjoint."""
        return Evidence(
            benefit=self.benefit.merge(other.benefit),
            harm=self.harm.merge(other.harm),
            counts=self.counts.merge(other.counts),
        )


def no_evidence() -> Evidence:
    """Where every registration begins."""
    empty = Histogram.of(np.empty(0, dtype=np.int64))
    return Evidence(benefit=empty, harm=empty)


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    scale: int
    benefit: list[list[int]]
    harm: list[list[int]]
    counts: Counts


def to_json(evidence: Evidence) -> bytes:
    """JSON that an auditor can read without us, byte for byte the same for equal evidence."""
    return msgspec.json.encode(
        {
            "scale": SCALE,
            "benefit": evidence.benefit.to_json(),
            "harm": evidence.harm.to_json(),
            "counts": evidence.counts,
        }
    )


def from_json(data: bytes | msgspec.Raw) -> Evidence:
    """The inverse of `to_json`. Raises InvalidInput where `data` is no evidence of ours."""
    try:
        written = msgspec.json.decode(data, type=_Written)
    except msgspec.DecodeError as error:
        raise InvalidInput("evidence", str(error)) from None
    if written.scale != SCALE:
        raise InvalidInput("evidence.scale", f"is {written.scale}; only {SCALE} can be read")
    return Evidence(
        benefit=Histogram.from_json(written.benefit),
        harm=Histogram.from_json(written.harm),
        counts=written.counts,
    )
