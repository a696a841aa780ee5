"""What a model runs on: onnxruntime's execution providers, by the short names of the settings.

Rules: the operator's list is an order of preference, and only a list that names `cpu` may end
there. Whatever was asked for and is not used is said; nothing falls back in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime

from gateway.errors import InvalidModel

_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_SHORT = {name: short for short, name in _NAMES.items()}


def is_available(provider: str) -> bool:
    """Whether this build of onnxruntime has it; a machine may still lack the device."""
    return _NAMES[provider] in onnxruntime.get_available_providers()


def unavailable(wanted: Sequence[str]) -> str:
    """What is asked for and not there, said as what to do about it; empty if all is there."""
    missing = [one for one in wanted if not is_available(one)]
    if not missing:
        return ""
    return (
        f"{missing[0]} is asked for, and the onnxruntime that is installed has no "
        f"{_NAMES[missing[0]]}; install a build that has it (for cuda: onnxruntime-gpu)"
    )


def session_providers(wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` that can be tried, in order. Raises InvalidModel if there is none."""
    usable = [_NAMES[one] for one in wanted if is_available(one)]
    if not usable:
        raise InvalidModel(unavailable(wanted))
    return usable


def provider_of(session: onnxruntime.InferenceSession, wanted: Sequence[str]) -> str:
    """The short name of the provider that a session really runs on.

    onnxruntime puts the CPU behind every list by itself. Raises InvalidModel when that is where
    it ended and `wanted` does not name it.
    """
    found: str = _SHORT[session.get_providers()[0]]
    if found not in wanted:
        raise InvalidModel(
            f"{wanted[0]} is asked for and cannot be used on this machine, so the model would run "
            f"on {found}; look to its driver and libraries, or name {found} behind it"
        )
    return found
