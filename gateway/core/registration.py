"""A registration's terms: everything that decides what is judged, fixed before it is seen.

Rules: terms never change. Another threshold, margin or horizon is another registration
with a level of its own, and evidence is never carried from one to the next. The digest
covers every field, so evidence cannot be read under terms it was not gathered by.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from math import isfinite, pi
from typing import Literal

import msgspec

from gateway.core.observations import MissingLabels
from gateway.core.routes import EntityRule, PredictionReading, Task
from gateway.errors import InvalidSetting

_ADDED_TO_PREDICTION = ("classes", "versions")
EventTime = Literal["accepted", "client"]
ErrorControl = Literal["e_lond", "each"]


class Bets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bets against the challenger: 16 fixed ones, and one matched to the minimum effect.

    `disagreement_rate` is that of earlier traffic, written here because a rate taken from
    the traffic judged would be a bet that has seen the outcome. None: no matched bet.
    """

    kind: Literal["mixture_16"] = "mixture_16"
    disagreement_rate: float | None = None


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one challenger is judged by. Losses and effects are in [0, 1]; call `validated`."""

    endpoint: str
    champion_digest: str
    challenger_digest: str
    task: Task = "binary"
    prediction: PredictionReading = PredictionReading()
    metric: str = "zero_one"
    margin: float = 0.0  # PROMOTE needs the average advantage to be above it
    minimum_effect: float | None = 0.01  # below it the challenger is not worth it; None: unsaid
    bets: Bets = Bets()
    maturity_s: int = 86_400
    event_time: EventTime = "accepted"
    entity: EntityRule = EntityRule()
    exclusions: tuple[str, ...] = ("undecodable", "pinned", "overload", "not_captured")
    slices: tuple[str, ...] = ()
    missing_labels: MissingLabels = "worst_case"
    alpha: float = 0.05
    beta: float = 0.1
    error_control: ErrorControl = "e_lond"
    min_duration_s: int = 7 * 86_400
    min_entities: int = 30
    scale: float = 1.0  # of a number's error: what is this far off is wholly wrong

    def digest(self) -> str:
        """SHA-256 over the canonical JSON: sorted keys, no blanks, 0 and 0.0 the same.

        What was added to the terms later is left out where nothing is said of it, so that the
        digests of older registrations stay what they are.
        """
        typed = msgspec.convert(msgspec.to_builtins(self), Terms)
        document = msgspec.to_builtins(typed)
        for field in _ADDED_TO_PREDICTION:
            if not document["prediction"][field]:
                del document["prediction"][field]
        if typed.scale == 1.0:
            del document["scale"]
        return sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


def validated(terms: Terms) -> Terms:
    """The same terms. Raises InvalidSetting naming the field that cannot be."""
    for field, is_fine, requirement in _REQUIREMENTS:
        if not is_fine(terms):
            value = _value(terms, field)
            raise InvalidSetting(f"{field}: {requirement}, not {value!r}")
    return terms


def level(*, alpha: float, number: int, promotions: int, error_control: ErrorControl) -> float:
    """The level α_j that registration `number` (from 1) of an endpoint must reach.

    e_lond: α · (6/π²) / j² · (1 + promotions so far by verdict) keeps the expected share of
    false promotions among all promotions by verdict at or below α (Xu & Ramdas, e-LOND).
    each: α for every challenger by itself.
    """
    if number < 1:
        raise InvalidSetting(f"number: registrations count from 1, not {number}")
    if not 0 <= promotions < number:
        raise InvalidSetting(f"promotions: must be 0 to {number - 1} before registration {number}")
    if error_control == "each":
        return alpha
    return alpha * (6 / pi**2) / number**2 * (1 + promotions)


def _value(terms: Terms, field: str) -> object:
    value: object = terms
    for name in field.split("."):
        value = getattr(value, name)
    return value


def _inside(low: float, value: float, high: float) -> bool:
    return isfinite(value) and low < value < high


def _minimum_effect_is_fine(terms: Terms) -> bool:
    effect = terms.minimum_effect
    return effect is None or _inside(terms.margin, effect, 1.0)


def _rate_is_fine(terms: Terms) -> bool:
    rate = terms.bets.disagreement_rate
    return rate is None or (isfinite(rate) and 0.0 < rate <= 1.0)


def _rate_has_its_place(terms: Terms) -> bool:
    if terms.bets.disagreement_rate is None:
        return True
    rows_of_zero_one = terms.metric == "zero_one" and terms.entity.source == "row"
    return rows_of_zero_one and terms.minimum_effect is not None


def _window_is_fine(terms: Terms) -> bool:
    window_s = terms.entity.window_s
    return window_s == 0 if terms.entity.source == "row" else window_s > 0


_REQUIREMENTS: tuple[tuple[str, Callable[[Terms], bool], str], ...] = (
    ("endpoint", lambda t: t.endpoint != "", "must name the endpoint"),
    ("champion_digest", lambda t: t.champion_digest != "", "must be the champion's digest"),
    (
        "challenger_digest",
        lambda t: t.challenger_digest not in ("", t.champion_digest),
        "must be a digest other than the champion's, for equal files cannot be told apart",
    ),
    ("margin", lambda t: 0.0 <= t.margin < 1.0, "must be at least 0 and below 1"),
    ("minimum_effect", _minimum_effect_is_fine, "must lie above `margin` and below 1"),
    ("bets.disagreement_rate", _rate_is_fine, "must be above 0 and at most 1"),
    (
        "bets.disagreement_rate",
        _rate_has_its_place,
        "must be left out unless metric is zero_one, each row its own entity and "
        "minimum_effect given",
    ),
    ("maturity_s", lambda t: t.maturity_s >= 0, "must be 0 or more seconds"),
    (
        "entity.window_s",
        _window_is_fine,
        "must be above 0 for an entity from a parameter, and 0 where each row is its own",
    ),
    ("alpha", lambda t: _inside(0.0, t.alpha, 1.0), "must lie between 0 and 1"),
    ("beta", lambda t: _inside(0.0, t.beta, 1.0), "must lie between 0 and 1"),
    ("min_duration_s", lambda t: t.min_duration_s >= 0, "must be 0 or more seconds"),
    ("scale", lambda t: isfinite(t.scale) and t.scale > 0.0, "must be above 0"),
    ("min_entities", lambda t: t.min_entities >= 1, "must be 1 or more"),
)
