"""The settings of a server: its environment. What concerns one endpoint stands in its file.

The only reader of it. Whatever is wrong is said with the key's name, what was found and
the nearest key that exists; nothing unknown is ignored.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.config_values import Seconds, complaints
from gateway.core.nearest import did_you_mean
from gateway.errors import InvalidSetting

#: Read by the command line, or before there are settings.
_OTHER_VARIABLES = ("AUDITION_URL", "AUDITION_KEY", "AUDITION_WORKERS")


class Settings(BaseSettings):
    """A server's settings, from environment variables that begin with `AUDITION_`."""

    model_config = SettingsConfigDict(env_prefix="AUDITION_", extra="ignore")

    state: Path = Field(Path("state"), description="folder of journal, archive and store")
    archive: str = Field("", description="folder or URL of the archive; empty: in the state")
    models: Path = Field(Path("models"), description="model repository")
    store: str = Field("", description="URL of the control store; empty: SQLite in the state")
    admin_key: str = Field("", description="presets the first admin key")
    open_inference: bool = Field(
        default=False,
        description="serve /v2 and /metrics without a key; `audition serve` sets it on loopback",
    )
    grpc_host: str = Field("127.0.0.1", description="address of the gRPC port")
    grpc_port: int = Field(3001, ge=0, le=65_535, description="port of gRPC; 0: none")
    max_body_bytes: int = Field(16 << 20, ge=1024, description="largest request body")
    max_model_bytes: int = Field(2 << 30, ge=1024, description="largest model file")
    max_waiting_runs: int = Field(64, ge=1, description="threaded runs that may wait")
    providers: Literal["cpu", "cuda,cpu", "cuda"] = Field(
        "cpu", description="what models run on, best first; without cpu there is no fallback"
    )
    journal_on_full: Literal["refuse", "serve_unrecorded"] = Field(
        "refuse", description="what happens when the journal cannot be written"
    )
    trace_ratio: float = Field(0.01, ge=0, le=1, description="share of requests with spans")
    shadow_time_limit_s: float = Field(
        10.0, gt=0, description="CPU seconds that one shadow run may take"
    )
    shadow_memory_bytes: int = Field(
        2 << 30, ge=64 << 20, description="memory of a challenger's process"
    )
    evaluator_priority: Literal["idle", "normal"] = Field(
        "idle", description="whether Evaluator and challengers get CPU time that others want"
    )
    drain: Seconds = Field(
        0, le=10, description="how long a worker that shall stop answers, unready"
    )
    shadow_tax_meter: bool = Field(
        default=True, description="pause the shadow now and then to see what it costs clients"
    )
    shadow_tax_budget_ms: float | None = Field(
        None, ge=0, description="p99 that the shadow may add before it throttles itself"
    )
    flush_every_s: float = Field(1.0, gt=0, description="how often the archive is written")
    retention_journal_age: Seconds = Field(7 * 86_400, description="how long a journal is kept")
    retention_journal_bytes: int = Field(32 << 30, ge=0, description="how much journal is kept")
    retention_archive_age: Seconds | None = Field(None, description="how long the archive is kept")

    @property
    def provider_names(self) -> tuple[str, ...]:
        """What models may run on, best first."""
        return tuple(self.providers.split(","))

    @property
    def store_url(self) -> str:
        """The control store's URL; the SQLite file in the state folder unless one is set."""
        return self.store or f"sqlite:///{(self.state / 'control.sqlite').absolute()}"


def load_settings(**given: Any) -> Settings:
    """The server's settings; `given` wins over the environment. Raises InvalidSetting."""
    _refuse_unknown_variables()
    try:
        return Settings(**given)
    except ValidationError as error:
        raise InvalidSetting(complaints(error, name=_variable)) from error


def _variable(setting: str) -> str:
    return f"AUDITION_{setting.upper()}"


def _refuse_unknown_variables() -> None:
    known = [*map(_variable, Settings.model_fields), *_OTHER_VARIABLES]
    for name in sorted(os.environ):
        if name.upper().startswith("AUDITION_") and name.upper() not in known:
            raise InvalidSetting(f"{name}: no such setting{did_you_mean(name.upper(), known)}")
