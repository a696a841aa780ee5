"""What exists is documented, and what is documented exists.

A setting, key, error, metric, gate, verb, route or word that is added without a line in docs/
turns a test red; so does a line about something that is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer.main
from prometheus_client import REGISTRY
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway import errors
from gateway.archive.comparisons import STATES
from gateway.bootstrap.worker import OPERATIONS
from gateway.cli.command import app
from gateway.core.access import GRANTS, ROLES
from gateway.core.metrics import all_metrics
from gateway.core.policies import all_policies
from gateway.core.policies.policy import Outcome
from gateway.core.records import Exclusion, ShadowStatus, Status
from gateway.core.rollout import PHASES
from gateway.core.verdict import Kind
from gateway.endpoint_file import EndpointFile
from gateway.endpoint_sections import section_in, values_of
from gateway.protocols.asgi import STATUSES
from gateway.protocols.grpc_statuses import STATUSES as GRPC_STATUSES
from gateway.settings import Settings
from gateway.telemetry import prometheus
from tests.docs.pages import DOCS, Block, blocks, named_rows, prose, row

_COMMANDS = typer.main.get_command(app)
#: What the front door answers itself, and the protocol's routes below it.
_OPEN = {
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /livez",
    "GET /openapi.json",
    "GET /readyz",
}


def _same(found: list[str], expected: set[str]) -> None:
    assert sorted(found) == sorted(expected)


# -- settings and files ------------------------------------------------------------------------


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/settings.md has a row for each variable of the server and of the command line."""
    page = DOCS / "settings.md"
    server = {f"AUDITION_{name.upper()}": field for name, field in Settings.model_fields.items()}
    client = {str(option.envvar) for option in _COMMANDS.params if getattr(option, "envvar", None)}
    _same(named_rows(page), {*server, *client})
    for name, field in server.items():
        default = str(field.default).lower() if field.annotation is bool else str(field.default)
        is_empty = field.default is None or not default
        assert f"| {'empty' if is_empty else f'`{default}`'} |" in row(page, name)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        section, each = section_in(field.annotation), values_of(field.annotation)
        if section is not None:
            yield from _keys(section, f"{key}.")
        elif isinstance(each, type) and issubclass(each, BaseModel):
            yield from _keys(each, f"{key}.<name>.")
        else:
            yield key, field


def _durations(default: object) -> set[str]:
    written = {str(default)}
    for unit, unit_s in (("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)):
        if isinstance(default, int) and default and default % unit_s == 0:
            written.add(f"{default // unit_s}{unit}")
    return written


def test_every_key_of_the_endpoint_file_is_documented_with_its_default() -> None:
    """docs/endpoint-file.md has a row for each key, at any depth, in the file's own words."""
    page = DOCS / "endpoint-file.md"
    keys = dict(_keys(EndpointFile))
    _same(named_rows(page), set(keys))
    for key, field in keys.items():
        default = field.default
        if default is None or default is PydanticUndefined:
            written = {"none"}
        elif isinstance(default, tuple):
            written = {"`[]`"}
        elif isinstance(default, dict):
            written = {"`{}`"}
        elif isinstance(default, bool):
            written = {f"`{str(default).lower()}`"}
        else:
            written = {f"`{text}`" for text in _durations(default)}
        cell = row(page, key).split(" | ")[1]
        assert cell in written, f"{key}: {cell} is not the default, {default!r}"


# -- errors ------------------------------------------------------------------------------------


def _error_classes() -> dict[str, type[BaseException]]:
    found = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, BaseException)}


def test_every_error_is_documented_with_its_status() -> None:
    """docs/errors.md has a row for each class, with the statuses that the protocols give it."""
    page = DOCS / "errors.md"
    _same(named_rows(page), set(_error_classes()))
    for name, kind in _error_classes().items():
        http = next((str(STATUSES[k]) for k in kind.__mro__ if k in STATUSES), "–")
        grpc = next((GRPC_STATUSES[k].name for k in kind.__mro__ if k in GRPC_STATUSES), "–")
        assert row(page, name).split(" | ")[1:3] == [http, grpc]


# -- statistics and metrics -----------------------------------------------------------------------


def test_every_metric_gate_and_verdict_is_documented() -> None:
    """docs/statistics.md has a row for each metric, each policy and each verdict."""
    expected = {*all_metrics(), *all_policies(), *get_args(Kind)}
    _same(named_rows(DOCS / "statistics.md"), expected)


def test_every_prometheus_metric_is_documented() -> None:
    """docs/operations.md has a row for each metric of ours, with its labels."""
    assert prometheus.MetricsSink
    page = DOCS / "operations.md"
    ours = [m for m in REGISTRY.collect() if m.name.startswith("audition_")]
    _same(named_rows(page), {m.name + "_total" * (m.type == "counter") for m in ours})


# -- commands ------------------------------------------------------------------------------------


def _verbs(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _verbs(child, f"{path} {name}")


_VERBS = dict(_verbs(_COMMANDS, "audition"))


def _section(verb: str) -> str:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    return text.partition(f"### `{verb}`\n")[2].partition("\n### ")[0]


def test_every_verb_has_a_section_and_no_other() -> None:
    """docs/cli.md has one heading for each command."""
    headings = re.findall(r"^### `([^`]+)`$", prose(DOCS / "cli.md"), re.MULTILINE)
    _same(headings, set(_VERBS))


@pytest.mark.parametrize("verb", _VERBS)
def test_every_option_is_in_the_verbs_example(verb: str) -> None:
    """A verb's section shows it in use and names each of its options."""
    section = _section(verb)
    assert f"{verb} " in section.partition("```bash\n")[2] or f"{verb}\n" in section
    for option in _VERBS[verb].params:
        if option.param_type_name == "option":
            assert option.opts[0] in section, f"{verb} {option.opts[0]} is not shown"


def _lines(block: Block) -> list[str]:
    return [line for line in block.text.splitlines() if "audition " in line]


@pytest.mark.parametrize("line", [line for b in blocks(DOCS / "cli.md") for line in _lines(b)])
def test_the_examples_can_be_parsed(line: str) -> None:
    """Each example is a command line that makes sense to the command itself."""
    words = re.findall(r'"[^"]*"|\S+', line.partition("audition ")[2])
    command: Any = _COMMANDS
    name = "audition"
    while hasattr(command, "commands"):
        name = words.pop(0)
        command = command.commands[name]
    files = {"FILE": __file__}
    words = [files["FILE"] if re.search(r"^(trees|labels)\.", word) else word for word in words]
    command.make_context(name, words, resilient_parsing=False)


# -- routes ---------------------------------------------------------------------------------------


def _operators_routes() -> dict[str, str]:
    return {
        f"{one.method} {one.path}": str(one.needs)
        for one in OPERATIONS
        if one.path.startswith("/v1/")
    }


def test_every_route_of_the_operators_is_documented_with_its_role() -> None:
    """docs/api.md has a row for each route under /v1, with the least role that may use it."""
    page = DOCS / "api.md"
    routes = _operators_routes()
    documented = [name for name in named_rows(page) if " /v1/" in name]
    _same(documented, set(routes))
    for route, right in routes.items():
        assert row(page, route).split(" | ")[1] == right


def test_every_role_is_documented() -> None:
    """docs/api.md says of each role what it may do."""
    roles = [name for name in named_rows(DOCS / "api.md") if " " not in name]
    _same(roles, set(ROLES))
    assert set(GRANTS) == set(ROLES)


def test_the_routes_without_a_key_are_said_to_be() -> None:
    """Only health needs no key."""
    page = DOCS / "api.md"
    routes = [name for name in named_rows(page) if " /" in name]
    _same([name for name in routes if row(page, name).split(" | ")[1] == "none"], _OPEN)


# -- words -----------------------------------------------------------------------------------


def test_the_glossary_has_every_word_of_the_code() -> None:
    """Roles, phases, verdicts, outcomes, statuses, exclusions and the books' states."""
    words = {
        *("champion", "challenger", "previous"),
        *PHASES,
        *get_args(Kind),
        *get_args(Outcome),
        *get_args(Status),
        *get_args(ShadowStatus),
        *(word for word in get_args(Exclusion) if word),
        *STATES,
    }
    assert words - set(named_rows(DOCS / "glossary.md")) == set()


def test_the_glossary_has_each_word_once() -> None:
    """One word for one thing."""
    found = named_rows(DOCS / "glossary.md")
    assert len(found) == len(set(found))
