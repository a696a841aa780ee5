"""Small rollouts and stores that many tests begin with."""

from __future__ import annotations

from pathlib import Path

from gateway.core.rollout import AddVersion, Challenge, first_rollout, step
from gateway.core.routes import EndpointRules, Rollout, VersionFacts
from gateway.core.tensors import Signature, TensorSpec
from gateway.errors import Refused, UnknownVersion
from gateway.stores.sql import SqlStore, make_store


def facts(version: str, *, datatype: str = "FP32", digest: str | None = None) -> VersionFacts:
    """A version with one input `x` and one output `y`; its digest differs by version."""
    return VersionFacts(
        version=version,
        digest=digest or version.encode().hex().rjust(64, "0"),
        path=f"demo/{version}/model.onnx",
        signature=Signature(
            inputs=(TensorSpec("x", datatype, (-1, 3)),),
            outputs=(TensorSpec("y", "FP32", (-1,)),),
        ),
        batches=True,
        inline=True,
    )


def solo(*, versions: tuple[str, ...] = ("1", "2", "3")) -> Rollout:
    """Champion 1, the other versions known and idle."""
    rollout = first_rollout("demo", champion=facts("1"), rules=EndpointRules(), salt="salt")
    for version in versions[1:]:
        rollout = step(rollout, AddVersion(facts(version)))
    return rollout


def challenged(rollout: Rollout, version: str, *, registration: int = 1) -> Rollout:
    """The rollout with `version` in shadow."""
    command = Challenge(
        version=version,
        registration=registration,
        registration_digest=f"terms-{registration}",
        probability_bp=10_000,
    )
    return step(rollout, command)


def store_at(folder: Path) -> SqlStore:
    """A store on a file of `folder`."""
    return make_store(f"sqlite:///{folder / 'control.sqlite'}")


class Shelf:
    """A model repository in memory; what is put on it has a file."""

    def __init__(self, *on_disk: VersionFacts) -> None:
        self.files = {found.version: found for found in on_disk}

    def add(self, endpoint: str, version: str, content: Path) -> VersionFacts:
        """Take the file in; its bytes are not looked at."""
        assert endpoint == "demo"
        assert content.stat().st_size > 0
        if version in self.files:
            raise Refused(f"version {version} exists")
        return self.files.setdefault(version, facts(version))

    def facts(self, endpoint: str, version: str) -> VersionFacts:
        """Facts of a file that is there."""
        if endpoint != "demo" or version not in self.files:
            raise UnknownVersion(f"no file for version {version}")
        return self.files[version]

    def versions(self, endpoint: str) -> list[str]:
        """What is on the shelf."""
        return sorted(self.files) if endpoint == "demo" else []
