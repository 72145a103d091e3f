"""What was seen at each moment, and the order of a pool's moments."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary

revision = "0004"
down_revision = "0003"

NUMBER = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "moments",
        Column("event_id", NUMBER, primary_key=True, autoincrement=False),
        Column("evidence", LargeBinary, nullable=False),
    )
    op.create_index("events_pool", "events", ["pool_id", "wall_s", "id"])
