"""Terms, their digest, and the level of a registration."""

from __future__ import annotations

from math import inf, nan, pi
from typing import Any

import msgspec
import pytest

from gateway.core.registration import Bets, Terms, level, validated
from gateway.core.routes import EntityRule, PredictionReading
from gateway.errors import InvalidSetting


def terms(**changes: Any) -> Terms:
    return Terms(**{"endpoint": "f", "champion_digest": "a", "challenger_digest": "b", **changes})


OTHERS: dict[str, Any] = {
    "endpoint": "g",
    "champion_digest": "c",
    "challenger_digest": "c",
    "task": "multiclass",
    "prediction": PredictionReading(threshold=0.4),
    "metric": "brier",
    "margin": 0.001,
    "minimum_effect": None,
    "bets": Bets(disagreement_rate=0.1),
    "maturity_s": 1,
    "event_time": "client",
    "entity": EntityRule(source="parameter", window_s=60),
    "exclusions": ("pinned",),
    "slices": ("carrier",),
    "missing_labels": "missing_at_random",
    "alpha": 0.01,
    "beta": 0.2,
    "error_control": "each",
    "min_duration_s": 0,
    "min_entities": 1,
    "scale": 2.0,
}


def test_every_field_is_in_the_digest() -> None:
    """Any other term is another registration; a new field without a case here turns it red."""
    assert set(OTHERS) == set(Terms.__struct_fields__)
    digests = {terms(**{name: value}).digest() for name, value in OTHERS.items()}
    assert len(digests | {terms().digest()}) == len(OTHERS) + 1


def test_the_digest_outlives_releases() -> None:
    """Stored evidence is keyed by it, so the bytes that are hashed must never change."""
    assert terms().digest() == "24ae98098b9603519bfc3aa144adce2a141cdd18af38514e8ad11bfe274bdaff"


def test_the_digest_sees_the_value_and_not_its_spelling() -> None:
    """0 and 0.0, a tuple and a list, terms and terms read back from JSON are the same."""
    again = msgspec.json.decode(msgspec.json.encode(terms(margin=0, slices=["x"])), type=Terms)
    assert terms(margin=0, slices=["x"]).digest() == again.digest()
    assert terms(margin=0.0, slices=("x",)).digest() == again.digest()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("endpoint", {"endpoint": ""}),
        ("champion_digest", {"champion_digest": ""}),
        ("challenger_digest", {"challenger_digest": ""}),
        ("challenger_digest", {"challenger_digest": "a"}),
        ("margin", {"margin": -0.01}),
        ("margin", {"margin": 1.0}),
        ("margin", {"margin": nan}),
        ("minimum_effect", {"minimum_effect": 0.0}),
        ("minimum_effect", {"minimum_effect": 1.0}),
        ("minimum_effect", {"minimum_effect": nan}),
        ("minimum_effect", {"minimum_effect": 0.02, "margin": 0.03}),
        ("bets.disagreement_rate", {"bets": Bets(disagreement_rate=0.0)}),
        ("bets.disagreement_rate", {"bets": Bets(disagreement_rate=1.1)}),
        ("bets.disagreement_rate", {"bets": Bets(disagreement_rate=0.1), "metric": "brier"}),
        (
            "bets.disagreement_rate",
            {
                "bets": Bets(disagreement_rate=0.1),
                "entity": EntityRule(source="parameter", window_s=1),
            },
        ),
        (
            "bets.disagreement_rate",
            {"bets": Bets(disagreement_rate=0.1), "minimum_effect": None},
        ),
        ("maturity_s", {"maturity_s": -1}),
        ("entity.window_s", {"entity": EntityRule(source="parameter", window_s=0)}),
        ("entity.window_s", {"entity": EntityRule(source="row", window_s=5)}),
        ("entity.window_s", {"entity": EntityRule(source="parameter", window_s=-5)}),
        ("alpha", {"alpha": 0.0}),
        ("alpha", {"alpha": 1.0}),
        ("alpha", {"alpha": inf}),
        ("beta", {"beta": 0}),
        ("beta", {"beta": nan}),
        ("min_duration_s", {"min_duration_s": -1}),
        ("min_entities", {"min_entities": 0}),
    ],
)
def test_impossible_terms_are_refused_by_name(field: str, changes: dict[str, Any]) -> None:
    """The message begins with the field and says what it must be."""
    with pytest.raises(InvalidSetting, match=rf"^{field}: must"):
        validated(terms(**changes))


def test_possible_terms_pass_unchanged() -> None:
    """The defaults, and a matched bet where it belongs."""
    for fine in (terms(), terms(bets=Bets(disagreement_rate=0.1)), terms(minimum_effect=None)):
        assert validated(fine) is fine


def test_terms_of_another_shape_are_refused() -> None:
    """An unknown field is a misspelt promise, not something to pass over."""
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({**msgspec.to_builtins(terms()), "marign": 0.1}, Terms)


def test_levels_of_all_registrations_sum_to_alpha() -> None:
    """Without promotions Σ α_j → α; each promotion by verdict earns its share back."""
    levels = [
        level(alpha=0.05, number=j, promotions=0, error_control="e_lond") for j in range(1, 20_001)
    ]
    assert levels[0] == pytest.approx(0.05 * 6 / pi**2)
    assert 0.0499 < sum(levels) < 0.05
    third = level(alpha=0.05, number=3, promotions=2, error_control="e_lond")
    assert third == pytest.approx(3 * levels[2])


def test_each_challenger_may_have_its_own_level() -> None:
    """error_control `each` uses alpha, whatever came before."""
    assert level(alpha=0.05, number=9, promotions=4, error_control="each") == 0.05


@pytest.mark.parametrize(("number", "promotions"), [(0, 0), (1, 1), (3, -1), (3, 3)])
def test_a_level_needs_a_possible_past(number: int, promotions: int) -> None:
    """Registrations count from 1, and each before could be promoted at most once."""
    with pytest.raises(InvalidSetting):
        level(alpha=0.05, number=number, promotions=promotions, error_control="e_lond")
