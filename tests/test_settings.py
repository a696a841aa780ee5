"""Settings and endpoint files: everything odd is refused with its key, and what is near to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.core.routes import EndpointRules, EntityRule, PredictionReading
from gateway.endpoint_file import EndpointFile, load_endpoint_file, parse_endpoint_file
from gateway.errors import InvalidSetting
from gateway.settings import load_settings

FULL = """
champion: 2
task: binary
event_time: client
clock_tolerance: 2h
prediction: {output: {1: probabilities, "5": score}, reading: probability, threshold: 0.4}
labels: {maturity: 24h}
entity: {from: parameter, window: 36h}
slices: [carrier, origin]
allow_pinned: true
allow_missing: [dep_delay]
shadow: {sample: 12.5%}
durability: disk
time_limit_ms: 250
policy:
  metric: brier
  margin: 0.01
  minimum_effect: 0.02
  alpha: 0.1
  min_duration: 7d
  min_entities: 12
  approval: automatic
"""


def _refusal(text: str) -> str:
    with pytest.raises(InvalidSetting) as refused:
        parse_endpoint_file(text, source="demo/endpoint.yaml")
    message = str(refused.value)
    assert message.startswith("demo/endpoint.yaml: ")
    return message.removeprefix("demo/endpoint.yaml: ")


def test_a_full_file_becomes_the_rules_that_processes_work_by() -> None:
    """Names that look like numbers, durations and shares are read as they are written."""
    file = parse_endpoint_file(FULL, source="x")
    assert file.champion == "2"
    rules = file.rules()
    assert rules.prediction == PredictionReading(
        {"1": "probabilities", "5": "score"}, "probability", 0.4
    )
    assert rules.entity == EntityRule("parameter", 36 * 3600)
    assert (rules.event_time, rules.clock_tolerance_s) == ("client", 7200)
    assert (rules.maturity_s, rules.sample_bp, rules.time_limit_ms) == (86_400, 1250, 250)
    assert (rules.durability, rules.allow_pinned) == ("disk", True)
    assert (rules.slices, rules.allow_missing) == (("carrier", "origin"), ("dep_delay",))
    policy = rules.policy
    assert (policy.metric, policy.margin, policy.minimum_effect) == ("brier", 0.01, 0.02)
    assert (policy.min_duration_s, policy.min_entities) == (7 * 86_400, 12)
    assert (policy.alpha, policy.approval) == (0.1, "automatic")


@pytest.mark.parametrize("text", ["", "   \n\n", "# nothing\n", "---\n", "{}"])
def test_a_blank_file_says_nothing(text: str) -> None:
    """It is as if there were none: the defaults of the file are those of the rules."""
    file = parse_endpoint_file(text, source="x")
    assert file == EndpointFile()
    assert file.rules() == EndpointRules()


def test_the_example_file_is_valid() -> None:
    """The one in the repository, whose values are explained line by line."""
    path = Path(__file__).parent.parent / "models" / "flights" / "endpoint.yaml"
    assert load_endpoint_file(path).champion == "1"


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("chamption: 1", "chamption", "champion"),
        ("policy: {minimum_efect: 0.1}", "policy.minimum_efect", "minimum_effect"),
        ("entity: {form: parameter, window: 1h}", "entity.form", "from"),
        ("prediction: {treshold: 0.5}", "prediction.treshold", "threshold"),
        ("labels: {maturty: 1d}", "labels.maturty", "maturity"),
        ("shadow: {sampel: 5%}", "shadow.sampel", "sample"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(text: str, key: str, near: str) -> None:
    """In every section, with its path."""
    assert f"{key}: no such key; did you mean {near}?" in _refusal(text)


def test_an_unknown_key_is_named_without_a_guess() -> None:
    """Where nothing is near, nothing is suggested."""
    assert _refusal("zzz: 1") == "zzz: no such key"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("champion: 1\nslices: [a]\nchampion: 2", "champion"),
        ("policy:\n  alpha: 0.01\n  beta: 0.1\n  alpha: 0.2", "alpha"),
        ("policy: {}\nlabels: {}\npolicy: {}", "policy"),
        ("prediction: {output: {1: a, 1: b}}", "1"),
        ('champion: 1\n"champion": 2', "champion"),
    ],
)
def test_a_doubled_key_is_refused(text: str, key: str) -> None:
    """YAML would take the last one without a word."""
    assert f"{key}: the key stands twice" in _refusal(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("task: survival", "task"),
        ("event_time: server", "event_time"),
        ("clock_tolerance: -1", "clock_tolerance"),
        ("clock_tolerance: 1 fortnight", "clock_tolerance"),
        ("clock_tolerance: 1.5h", "clock_tolerance"),
        ("labels: {maturity: 9999999999999w}", "labels.maturity"),
        ("labels: {maturity: soon}", "labels.maturity"),
        ("entity: {from: row, window: 1h}", "entity.from"),
        ("entity: {from: parameter}", "entity.window"),
        ("entity: {from: parameter, window: 0}", "entity.window"),
        ("prediction: {threshold: 1.5}", "prediction.threshold"),
        ("prediction: {threshold: .nan}", "prediction.threshold"),
        ("prediction: {reading: vibes}", "prediction.reading"),
        ("slices: carrier", "slices"),
        ("slices: [[a]]", "slices.0"),
        ("shadow: {sample: 101%}", "shadow.sample"),
        ("shadow: {sample: -1%}", "shadow.sample"),
        ("shadow: {sample: 1e400%}", "shadow.sample"),
        ("shadow: {sample: nan%}", "shadow.sample"),
        ("shadow: {sample: 10001}", "shadow.sample"),
        ("durability: tape", "durability"),
        ("time_limit_ms: 0", "time_limit_ms"),
        ("time_limit_ms: 1000000000000000000000000", "time_limit_ms"),
        ("time_limit_ms: .inf", "time_limit_ms"),
        ("max_batch_rows: 0", "max_batch_rows"),
        ("max_batch_rows: many", "max_batch_rows"),
        ("max_queue_ms: 0", "max_queue_ms"),
        ("max_queue_ms: 20\ntime_limit_ms: 10", "max_queue_ms"),
        ("champion: 1.5", "champion"),
        ("champion: true", "champion"),
        ("champion: [1]", "champion"),
        ("policy: {alpha: 0}", "policy.alpha"),
        ("policy: {alpha: 1}", "policy.alpha"),
        ("policy: {alpha: .nan}", "policy.alpha"),
        ("policy: {alpha: .inf}", "policy.alpha"),
        ("policy: {beta: -0.1}", "policy.beta"),
        ("policy: {min_entities: 0}", "policy.min_entities"),
        ("policy: {min_duration: -1d}", "policy.min_duration"),
        ("policy: {approval: maybe}", "policy.approval"),
        ("policy: {minimum_effect: 0.1, margin: 0.2}", "policy.minimum_effect"),
        ("policy: {minimum_effect: 0.1, margin: 0.1}", "policy.minimum_effect"),
        ("policy: [alpha]", "policy"),
        ("policy: {metric: f1}", "policy.metric"),
        ("task: regression", "policy.metric"),
        ("task: multiclass\npolicy: {metric: brier}", "policy.metric"),
        ("prediction: {reading: class}\npolicy: {metric: brier}", "policy.metric"),
        ("task: multiclass", "prediction.reading"),
        ("task: regression\npolicy: {metric: absolute_error}", "prediction.reading"),
        ("policy: {scale: 0}", "policy.scale"),
        ("policy: {scale: .inf}", "policy.scale"),
    ],
)
def test_an_impossible_value_is_named_by_its_key(text: str, field: str) -> None:
    """At load, before anything is served by it."""
    assert _refusal(text).startswith(f"{field}: ")


def test_an_unknown_metric_is_told_which_there_are() -> None:
    """By the task, from the files that define them."""
    assert "there is brier, zero_one" in _refusal("policy: {metric: f1}")
    assert "there is zero_one" in _refusal("task: multiclass\npolicy: {metric: brier}")
    assert "there is absolute_error" in _refusal("task: regression")


@pytest.mark.parametrize(
    "text",
    [
        "- a\n- b",
        "just words",
        "42",
        "a: b: c",
        "a: [1, 2",
        "\x00",
        "!!python/object/apply:os.system [id]",
        "champion: !!python/name:os.system",
        "champion: 1\n---\nchampion: 2",
        "champion: &a [*a]",
        "? [1, 2]\n: 3",
        "1: x",
        "champion: 2001-99-99",
        f"champion: {'9' * 5000}",
        "[" * 3000,
        "{a: " * 3000,
    ],
)
def test_what_is_no_mapping_of_known_keys_is_refused(text: str) -> None:
    """Other documents, other types, tags that would run code, endless nesting and numbers."""
    assert _refusal(text)


def test_what_is_wrong_is_shown_and_cut_short() -> None:
    """The value is in the message, but not all of it, and not all of a thousand complaints."""
    assert "not 'survival'" in _refusal("task: survival")
    assert len(_refusal(f"task: {'x' * 100_000}")) < 300
    message = _refusal(yaml.safe_dump({"slices": [[n] for n in range(2000)]}))
    assert message.endswith("and 1992 more")


def test_aliases_cannot_blow_a_message_up() -> None:
    """A few lines of YAML can stand for billions of elements."""
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert len(_refusal("\n".join([*lines, "champion: *a11"]))) < 3000


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    """Ten megabytes are no endpoint file, and are not parsed to find that out."""
    path = tmp_path / "endpoint.yaml"
    path.write_bytes(b"champion: 1\n" + b"# filler\n" * (10 << 20 >> 3))
    with pytest.raises(InvalidSetting, match=r"endpoint\.yaml: larger than 1 MiB"):
        load_endpoint_file(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, or no UTF-8."""
    (tmp_path / "latin").write_bytes(b"champion: \xff")
    for name in ("missing", ".", "latin"):
        with pytest.raises(InvalidSetting, match="cannot be read"):
            load_endpoint_file(tmp_path / name)


def test_settings_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the prefix; what is given by the caller wins."""
    monkeypatch.setenv("AUDITION_STATE", str(tmp_path))
    monkeypatch.setenv("AUDITION_MAX_BODY_BYTES", "4096")
    settings = load_settings(max_body_bytes=8192)
    assert settings.state == tmp_path
    assert settings.max_body_bytes == 8192
    assert settings.store_url == f"sqlite:///{tmp_path}/control.sqlite"
    assert load_settings(store="sqlite:////elsewhere.db").store_url == "sqlite:////elsewhere.db"


def test_a_duration_is_seconds_or_has_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment even a number is a text."""
    for text, expected_s in (("90", 90), ("90s", 90), ("2 h", 7200), ("1w", 604_800)):
        monkeypatch.setenv("AUDITION_RETENTION_JOURNAL_AGE", text)
        assert load_settings().retention_journal_age == expected_s


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUDITION_MAX_BODY_BYTES", "lots"),
        ("AUDITION_MAX_BODY_BYTES", "0"),
        ("AUDITION_TRACE_RATIO", "1.5"),
        ("AUDITION_JOURNAL_ON_FULL", "drop"),
        ("AUDITION_OPEN_INFERENCE", "perhaps"),
        ("AUDITION_SHADOW_MEMORY_BYTES", "1"),
        ("AUDITION_FLUSH_EVERY_S", "0"),
    ],
)
def test_a_bad_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """As it is written in the environment."""
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting) as refused:
        load_settings()
    assert str(refused.value).startswith(f"{name}: ")
    assert str(refused.value).endswith(f"not '{value}'")


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that somebody believes to be set is worse than none."""
    monkeypatch.setenv("AUDITION_MAX_BODY_BYTE", "4096")
    with pytest.raises(InvalidSetting, match="did you mean AUDITION_MAX_BODY_BYTES"):
        load_settings()


def test_the_command_lines_own_variables_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that is set up for operating the gateway can start one."""
    for name in ("AUDITION_URL", "AUDITION_KEY", "AUDITION_WORKERS"):
        monkeypatch.setenv(name, "1")
    assert load_settings()
