"""The tables as they are now. What changes here needs a step in migrations/versions too.

Rules: times are seconds of the wall clock; texts that hold JSON say so; secrets are hashes, except
what signs webhooks and what makes codes, which must be known to be used.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")

users = Table(
    "users", metadata,
    Column("name", Text, primary_key=True),
    Column("password", Text, nullable=False),  # Argon2's own text; "" = kept elsewhere
    Column("disabled", Boolean, nullable=False),
    Column("created_wall_s", Double, nullable=False),
    Column("origin", Text, nullable=False, server_default="local"),  # local | ldap | oidc
    Column("subject", Text, nullable=False, server_default=""),  # what the origin calls it
    Column("code_needed", Boolean, nullable=False, server_default=false()),
    Column("seen_wall_s", Double, nullable=False, server_default="0"),  # last login; 0 = never
)  # fmt: skip

grants = Table(
    "grants", metadata,
    Column("holder", Text, primary_key=True),  # user:NAME or token:ID
    Column("role", Text, primary_key=True),
    Column("pool_id", Text, primary_key=True),  # "" = everything
    Column("vm", Text, primary_key=True),  # "" = the whole pool
)  # fmt: skip

tokens = Table(
    "tokens", metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),  # name of a user
    Column("hash", Text, nullable=False, unique=True),
    Column("created_wall_s", Double, nullable=False),
    Column("expires_wall_s", Double, nullable=False),
    Column("used_wall_s", Double, nullable=False),  # 0 = never
)  # fmt: skip

sessions = Table(
    "sessions", metadata,
    Column("hash", Text, primary_key=True),
    Column("name", Text, nullable=False, index=True),
    Column("csrf", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("created_wall_s", Double, nullable=False),
    Column("expires_wall_s", Double, nullable=False),
    Column("stage", Text, nullable=False, server_default=""),  # "" = whole; see sessions.py
)  # fmt: skip

factors = Table(  # authenticator apps; a row that is not confirmed asks for nothing yet
    "factors", metadata,
    Column("name", Text, primary_key=True),  # of a user
    Column("secret", Text, nullable=False),
    Column("confirmed", Boolean, nullable=False),
    Column("last_step", NUMBER, nullable=False),  # of the last code that was taken
)  # fmt: skip

recovery_codes = Table(  # each is good once: using it takes it away
    "recovery_codes", metadata,
    Column("name", Text, primary_key=True),
    Column("hash", Text, primary_key=True),
)  # fmt: skip

audit = Table(  # rows are added only; triggers refuse everything else
    "audit", metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("wall_s", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
)  # fmt: skip

events = Table(  # the journals of all pools
    "events", metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("pool_id", Text, nullable=False),
    Column("note", Text, nullable=False),  # its id in the journal, or a hash of it
    Column("wall_s", Double, nullable=False),
    Column("host", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("vm", Text, nullable=False),  # "" = about no VM
    Column("sentence", Text, nullable=False),
    Column("fields", Text, nullable=False),  # JSON
    UniqueConstraint("pool_id", "note", name="events_note"),
    Index("events_time", "wall_s", "id"),
    Index("events_pool", "pool_id", "wall_s", "id"),
)  # fmt: skip

moments = Table(  # what was seen at an event
    "moments", metadata,
    Column("event_id", NUMBER, primary_key=True, autoincrement=False),
    Column("evidence", LargeBinary, nullable=False),  # JSON, packed with zlib
)  # fmt: skip

tasks = Table(
    "tasks", metadata,
    Column("id", Text, primary_key=True),
    Column("verb", Text, nullable=False),
    Column("pool_id", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("started_wall_s", Double, nullable=False),
    Column("ended_wall_s", Double, nullable=False),  # 0 = not yet
    Column("phase", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("failed", Boolean, nullable=False),
    Column("manager", Text, nullable=False),  # id of the one that asks the pool
    Column("wish", Text, nullable=False),  # JSON: what to look for in the pool
    Index("tasks_open", "done", "started_wall_s"),
)  # fmt: skip

pools = Table(
    "pools", metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("agents", Text, nullable=False),  # JSON: addresses
    Column("added_wall_s", Double, nullable=False),
)  # fmt: skip

calls = Table(  # answers to calls with an Idempotency-Key
    "calls", metadata,
    Column("who", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", Text, nullable=False),  # hash of method, path and body
    Column("status", Integer, nullable=False),  # 0 = not answered yet
    Column("body", Text, nullable=False),
    Column("wall_s", Double, nullable=False),
)  # fmt: skip

managers = Table(  # those that run, or ran
    "managers", metadata,
    Column("id", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("seen_wall_s", Double, nullable=False),
)  # fmt: skip

settings = Table(
    "settings", metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)  # fmt: skip

webhooks = Table(
    "webhooks", metadata,
    Column("id", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("codes", Text, nullable=False),  # prefixes of event codes, with commas; "" = all
    Column("after_id", NUMBER, nullable=False),  # the last event that was handed over to it
    Column("created_wall_s", Double, nullable=False),
)  # fmt: skip

deliveries = Table(
    "deliveries", metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("webhook", Text, nullable=False, index=True),
    Column("event_id", NUMBER, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_wall_s", Double, nullable=False),  # 0 = it is over
    Column("status", Integer, nullable=False),  # of the last answer; 0 = none
    Column("sentence", Text, nullable=False),
    UniqueConstraint("webhook", "event_id", name="deliveries_once"),
)  # fmt: skip

rollups = Table(  # metrics over time; see manager/rollup.py
    "rollups", metadata,
    Column("step_s", Integer, primary_key=True, autoincrement=False),
    Column("pool_id", Text, primary_key=True),
    Column("part", Text, primary_key=True),  # "" = the pool and its hosts, else a share of its VMs
    Column("start_s", NUMBER, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),  # compressed JSON
    Index("rollups_time", "step_s", "start_s"),
)  # fmt: skip

rounds = Table(  # rolling maintenance: the last round of each pool
    "rounds", metadata,
    Column("pool_id", Text, primary_key=True),
    Column("version", Integer, nullable=False),  # grows with each change
    Column("open", Integer, nullable=False),  # 1 = somebody has to go on with it
    Column("body", Text, nullable=False),  # JSON
)  # fmt: skip
