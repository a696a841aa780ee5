"""Registrations: what a challenger will be judged by, fixed when it is challenged.

Rules: pure. Terms are built from the rollout's rules and the two digests, numbers count the
registrations of the endpoint, and the level follows from the number and the promotions that
verdicts made before it. Forced promotions and rollbacks buy nothing (e-LOND).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.core.decisions import Decision
from gateway.core.registration import Terms, level, validated
from gateway.core.routes import Challenger, Rollout
from gateway.ports import Registration


def terms_of(rollout: Rollout, *, champion: str, version: str) -> Terms:
    """The terms of `version` against `champion`. Raises InvalidSetting where none can be."""
    rules, policy = rollout.rules, rollout.rules.policy
    return validated(
        Terms(
            endpoint=rollout.endpoint,
            champion_digest=rollout.versions[champion].digest,
            challenger_digest=rollout.versions[version].digest,
            task=rules.task,
            prediction=rules.prediction,
            metric=policy.metric,
            margin=policy.margin,
            minimum_effect=policy.minimum_effect,
            maturity_s=rules.maturity_s,
            event_time=rules.event_time,
            entity=rules.entity,
            slices=rules.slices,
            missing_labels=policy.missing_labels,
            alpha=policy.alpha,
            beta=policy.beta,
            error_control=policy.error_control,
            min_duration_s=policy.min_duration_s,
            min_entities=policy.min_entities,
            scale=policy.scale,
        )
    )


def open_registration(
    rollout: Rollout,
    *,
    champion: str,
    version: str,
    number: int,
    promotions: int,
    at_us: int,
) -> Registration:
    """The registration that the next epoch of `rollout` begins with."""
    terms = terms_of(rollout, champion=champion, version=version)
    return Registration(
        endpoint=rollout.endpoint,
        number=number,
        version=version,
        champion=champion,
        terms=terms,
        digest=terms.digest(),
        level=level(
            alpha=terms.alpha,
            number=number,
            promotions=promotions,
            error_control=terms.error_control,
        ),
        opened_epoch=rollout.epoch + 1,
        opened_at_us=at_us,
    )


def reopen_against(
    rollout: Rollout,
    champion: str,
    *,
    after: int,
    promotions: int,
    at_us: int,
) -> list[Registration]:
    """Registrations of the challengers that stay when `champion` takes over.

    `after` is the number of the latest registration. A challenger whose file is the new
    champion's own cannot be told apart from it, and does not stay.
    """
    crowned = rollout.versions[champion].digest
    staying = [v for v in rollout.challengers if rollout.versions[v].digest != crowned]
    return [
        open_registration(
            rollout,
            champion=champion,
            version=version,
            number=after + place,
            promotions=promotions,
            at_us=at_us,
        )
        for place, version in enumerate(staying, start=1)
    ]


def challengers_of(
    rollout: Rollout, registrations: Iterable[Registration]
) -> tuple[Challenger, ...]:
    """The challengers of new registrations; each keeps the share that its shadow had."""
    return tuple(
        Challenger(
            version=opened.version,
            registration=opened.number,
            registration_digest=opened.digest,
            probability_bp=rollout.challengers[opened.version].probability_bp,
        )
        for opened in registrations
    )


def promotions_by_verdict(decisions: Iterable[Decision]) -> int:
    """How many promotions a verdict made; forced ones do not count."""
    commands = (decision.command for decision in decisions)
    return sum(command["type"] == "promote" and not command["forced"] for command in commands)


def open_numbers(registrations: Sequence[Registration]) -> list[int]:
    """The numbers of the registrations that are still open."""
    return [r.number for r in registrations if r.closed_epoch is None]
