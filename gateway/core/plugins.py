"""How metrics and policies are found: every module of a package that names one is one.

Adding a thing is adding its file. Modules without the attribute are support and skipped.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def found(package: ModuleType, attribute: str, kind: type[T]) -> dict[str, T]:
    """Module name → its `attribute`, for the modules of `package` that have one, sorted."""
    names = sorted(info.name for info in iter_modules(package.__path__))
    modules = {name: import_module(f"{package.__name__}.{name}") for name in names}
    values = {name: getattr(module, attribute, None) for name, module in modules.items()}
    return {name: value for name, value in values.items() if isinstance(value, kind)}
