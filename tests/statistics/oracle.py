"""The reference values, by case; each carries its provenance in the file."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def cases() -> dict[str, dict[str, Any]]:
    """Every case of oracle.json by its id."""
    text = Path(__file__).with_name("oracle.json").read_text()
    return {case["id"]: case for case in json.loads(text)["cases"]}
