"""Webhooks and the log of their deliveries."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, Text, UniqueConstraint

revision = "0002"
down_revision = "0001"

NUMBER = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhooks",
        Column("id", Text, primary_key=True),
        Column("url", Text, nullable=False),
        Column("secret", Text, nullable=False),
        Column("codes", Text, nullable=False),
        Column("after_id", NUMBER, nullable=False),
        Column("created_wall_s", Double, nullable=False),
    )  # fmt: skip
    op.create_table(
        "deliveries",
        Column("id", NUMBER, primary_key=True, autoincrement=True),
        Column("webhook", Text, nullable=False),
        Column("event_id", NUMBER, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("next_wall_s", Double, nullable=False),
        Column("status", Integer, nullable=False),
        Column("sentence", Text, nullable=False),
        UniqueConstraint("webhook", "event_id", name="deliveries_once"),
    )  # fmt: skip
    op.create_index("ix_deliveries_webhook", "deliveries", ["webhook"])
