"""YAML as configuration is read here: like safe_load, but nothing may be said twice.

Of a repeated key YAML takes the last value in silence; of a setting that somebody doubted
neither value is the right one.
"""

from __future__ import annotations

from typing import Any

import yaml


def read_yaml(text: str) -> Any:
    """The document, None if there is none. Raises ValueError that says what is wrong."""
    try:
        loader = yaml.SafeLoader(text)
        document = loader.get_single_node()
        _refuse_repeated_keys(document, seen=set())
        return None if document is None else loader.construct_document(document)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _refuse_repeated_keys(node: Any, *, seen: set[int]) -> None:
    if id(node) in seen:  # an alias of a node that was looked at
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_repeated_keys(child, seen=seen)
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            _refuse_known(key, keys)
            _refuse_repeated_keys(value, seen=seen)


def _refuse_known(key: Any, keys: set[str]) -> None:
    word = str(key.value)
    if word in keys:
        line = key.start_mark.line + 1
        raise ValueError(f"{word}: the key stands twice, the second time in line {line}")
    keys.add(word)
