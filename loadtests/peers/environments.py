"""Each peer's own environment, made once from its lock and used again until the lock changes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

_LOCKS = Path(__file__).parent / "locks"


def interpreter(peer: str) -> Path:
    """The Python of a peer's environment, which is made if it is not there."""
    lock = _LOCKS / f"{peer}.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / "audition-peers" / f"{peer}-{digest}"
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock))
        done.touch()
    return python


def version(python: Path, distribution: str) -> str:
    """What is installed in an environment."""
    asked = f"from importlib.metadata import version; print(version({distribution!r}))"
    told = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
