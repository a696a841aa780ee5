"""The identity of a model version: a digest of its file, and of the weights it keeps outside.

A model in one file is known by the SHA-256 of that file, which anybody can check. Weights in
files of their own are as much the model as its graph is, so there the digest is taken over
all of them; otherwise they could change under the same version.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path


def version_digest(content: bytes, *, folder: Path | None, external: Sequence[str]) -> str:
    """The digest of a model's bytes and of its `external` files below `folder`, in hexadecimal.

    Raises OSError when a file cannot be read.
    """
    own = sha256(content).hexdigest()
    if not external or folder is None:
        return own
    parts = [own, *(f"{name} {_digest(folder / name)}" for name in sorted(external))]
    return sha256("\n".join(parts).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
