"""The history of metrics, and rolling maintenance."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Text

revision = "0005"
down_revision = "0004"

NUMBER = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "rollups",
        Column("step_s", Integer, primary_key=True, autoincrement=False),
        Column("pool_id", Text, primary_key=True),
        Column("part", Text, primary_key=True),
        Column("start_s", NUMBER, primary_key=True, autoincrement=False),
        Column("body", LargeBinary, nullable=False),
    )  # fmt: skip
    op.create_index("rollups_time", "rollups", ["step_s", "start_s"])
    op.create_table(
        "rounds",
        Column("pool_id", Text, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("open", Integer, nullable=False),
        Column("body", Text, nullable=False),
    )  # fmt: skip
