"""A registration of version 2 against champion 1, and the rollouts that it lived through."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.archive.comparisons import Scope
from gateway.core.registration import Terms
from gateway.core.routes import Challenger, EndpointRules, Rollout, VersionFacts
from gateway.core.tensors import Signature, TensorSpec
from gateway.ports import Registration

S = 1_000_000  # one second in microseconds
OPENED = 2  # the epoch that the registration began with


def terms(**changed: Any) -> Terms:
    """0/1 loss of a probability called `p`, labels due within 100 s."""
    facts: dict[str, Any] = {
        "endpoint": "flights",
        "champion_digest": "d1",
        "challenger_digest": "d2",
        "maturity_s": 100,
        "min_duration_s": 0,
        "min_entities": 1,
    }
    return Terms(**{**facts, **changed})


def registration(fixed: Terms | None = None, **changed: Any) -> Registration:
    """Number 1, open since epoch 2."""
    fixed = fixed or terms()
    facts: dict[str, Any] = {
        "endpoint": fixed.endpoint, "number": 1, "version": "2", "champion": "1", "terms": fixed,
        "digest": fixed.digest(), "level": 0.05, "opened_epoch": OPENED, "opened_at_us": 0,
    }  # fmt: skip
    return Registration(**{**facts, **changed})


def rollouts(opened: Registration, *shares_bp: int) -> dict[int, Rollout]:
    """One epoch for each share, from the registration's first on."""
    return {
        OPENED + place: _rollout(opened, OPENED + place, share_bp)
        for place, share_bp in enumerate(shares_bp or (10_000,))
    }


def scope(opened: Registration | None = None, **changed: Any) -> Scope:
    """All of the archive, everything sampled."""
    opened = opened or registration()
    return Scope(**{"registration": opened, "rollouts": rollouts(opened), **changed})


def _rollout(opened: Registration, epoch: int, share_bp: int) -> Rollout:
    signature = Signature(inputs=(), outputs=(TensorSpec("p", "FP64", (-1,)),))
    versions = {
        version: VersionFacts(
            version, digest, f"{version}.onnx", signature, batches=True, inline=True
        )
        for version, digest in (
            (opened.champion, opened.terms.champion_digest),
            (opened.version, opened.terms.challenger_digest),
        )
    }
    challenger = Challenger(opened.version, opened.number, opened.digest, share_bp)
    return Rollout(
        endpoint=opened.endpoint, epoch=epoch, phase="shadow", champion=opened.champion,
        previous=None, split={opened.champion: 10_000},
        challengers={opened.version: challenger}, versions=versions, rules=EndpointRules(),
        salt="salt",
    )  # fmt: skip


def closed(opened: Registration, *, at_epoch: int) -> Registration:
    """The registration after it ended."""
    return msgspec.structs.replace(opened, closed_epoch=at_epoch, closed_reason="withdrawn")
