"""The control store's tables. Rules: plain SQL types only; structured values are JSON text."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

#: Raised by one when a release can no longer read what an older one wrote.
FORMAT = 1

metadata = MetaData()

store_format = Table("store_format", metadata, Column("format", Integer, primary_key=True))

#: One row: which store this is, so that an empty one in its place is noticed.
store_identity = Table("store_identity", metadata, Column("id", String(32), primary_key=True))

endpoints = Table(
    "endpoints",
    metadata,
    Column("endpoint", String(63), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("head_hash", String(64), nullable=False),
)

epochs = Table(
    "epochs",
    metadata,
    Column("endpoint", ForeignKey("endpoints.endpoint"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("rollout", Text, nullable=False),
    Column("rollout_sha256", String(64), nullable=False),
    Column("command", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

registrations = Table(
    "registrations",
    metadata,
    Column("endpoint", ForeignKey("endpoints.endpoint"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("version", String(63), nullable=False),
    Column("champion", String(63), nullable=False),
    Column("terms", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("level", Float(53), nullable=False),
    Column("opened_epoch", Integer, nullable=False),
    Column("opened_at_us", BigInteger, nullable=False),
    Column("closed_epoch", Integer),
    Column("closed_reason", Text, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("endpoint", String(63), primary_key=True),
    Column("registration", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("cut_us", BigInteger, nullable=False),
    Column("covered", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("verdict", Text, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("writer_id", String(12), primary_key=True),
    Column("pid", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("epochs", Text, nullable=False),
    Column("loaded", Text, nullable=False),
    Column("problem", Text, nullable=False),
    Column("unrecorded_rows", Integer, nullable=False),
)

#: One row, whose key is always 1.
evaluator = Table(
    "evaluator",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("endpoints", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)
