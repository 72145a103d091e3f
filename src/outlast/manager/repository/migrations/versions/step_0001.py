"""People, tokens, sessions, audit, history, tasks, pools."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, Text, UniqueConstraint

revision = "0001"
down_revision = None

NUMBER = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    _people()
    _records()
    _rest()
    _keep_audit()


def _people() -> None:
    op.create_table(
        "users",
        Column("name", Text, primary_key=True),
        Column("password", Text, nullable=False),
        Column("disabled", Boolean, nullable=False),
        Column("created_wall_s", Double, nullable=False),
    )  # fmt: skip
    op.create_table(
        "grants",
        Column("holder", Text, primary_key=True),
        Column("role", Text, primary_key=True),
        Column("pool_id", Text, primary_key=True),
        Column("vm", Text, primary_key=True),
    )  # fmt: skip
    op.create_table(
        "tokens",
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("owner", Text, nullable=False),
        Column("hash", Text, nullable=False, unique=True),
        Column("created_wall_s", Double, nullable=False),
        Column("expires_wall_s", Double, nullable=False),
        Column("used_wall_s", Double, nullable=False),
    )  # fmt: skip
    op.create_table(
        "sessions",
        Column("hash", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("csrf", Text, nullable=False),
        Column("address", Text, nullable=False),
        Column("created_wall_s", Double, nullable=False),
        Column("expires_wall_s", Double, nullable=False),
    )  # fmt: skip
    op.create_index("ix_sessions_name", "sessions", ["name"])


def _records() -> None:
    op.create_table(
        "audit",
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
    op.create_table(
        "events",
        Column("id", NUMBER, primary_key=True, autoincrement=True),
        Column("pool_id", Text, nullable=False),
        Column("note", Text, nullable=False),
        Column("wall_s", Double, nullable=False),
        Column("host", Text, nullable=False),
        Column("code", Text, nullable=False),
        Column("vm", Text, nullable=False),
        Column("sentence", Text, nullable=False),
        Column("fields", Text, nullable=False),
        UniqueConstraint("pool_id", "note", name="events_note"),
    )  # fmt: skip
    op.create_index("events_time", "events", ["wall_s", "id"])
    op.create_table(
        "tasks",
        Column("id", Text, primary_key=True),
        Column("verb", Text, nullable=False),
        Column("pool_id", Text, nullable=False),
        Column("object", Text, nullable=False),
        Column("who", Text, nullable=False),
        Column("started_wall_s", Double, nullable=False),
        Column("ended_wall_s", Double, nullable=False),
        Column("phase", Text, nullable=False),
        Column("sentence", Text, nullable=False),
        Column("hint", Text, nullable=False),
        Column("done", Boolean, nullable=False),
        Column("failed", Boolean, nullable=False),
        Column("manager", Text, nullable=False),
        Column("wish", Text, nullable=False),
    )  # fmt: skip
    op.create_index("tasks_open", "tasks", ["done", "started_wall_s"])


def _rest() -> None:
    op.create_table(
        "pools",
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("agents", Text, nullable=False),
        Column("added_wall_s", Double, nullable=False),
    )  # fmt: skip
    op.create_table(
        "calls",
        Column("who", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("request", Text, nullable=False),
        Column("status", Integer, nullable=False),
        Column("body", Text, nullable=False),
        Column("wall_s", Double, nullable=False),
    )  # fmt: skip
    op.create_table(
        "managers",
        Column("id", Text, primary_key=True),
        Column("address", Text, nullable=False),
        Column("seen_wall_s", Double, nullable=False),
    )  # fmt: skip
    op.create_table(
        "settings",
        Column("key", Text, primary_key=True),
        Column("value", Text, nullable=False),
    )  # fmt: skip


def _keep_audit() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for what in ("update", "delete"):
            op.execute(
                f"create trigger audit_no_{what} before {what} on audit "
                "begin select raise(abort, 'the audit is never changed'); end"
            )
    else:
        op.execute(
            "create function audit_is_kept() returns trigger language plpgsql as "
            "$$ begin raise exception 'the audit is never changed'; end $$"
        )
        op.execute(
            "create trigger audit_no_change before update or delete or truncate on audit "
            "for each statement execute function audit_is_kept()"
        )
