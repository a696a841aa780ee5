"""The policies, one file each; a file here with a `POLICY` is a policy."""

from __future__ import annotations

import sys
from functools import cache

from gateway.core.plugins import found
from gateway.core.policies.policy import Policy


@cache
def all_policies() -> dict[str, Policy]:
    """Every policy by the name of its file."""
    return found(sys.modules[__name__], "POLICY", Policy)
