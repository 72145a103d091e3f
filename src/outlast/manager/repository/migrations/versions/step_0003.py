"""Second factors, people of a directory or provider; the audit refuses to be replaced, too."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, Text, false

revision = "0003"
down_revision = "0002"

NUMBER = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.add_column("users", Column("origin", Text, nullable=False, server_default="local"))
    op.add_column("users", Column("subject", Text, nullable=False, server_default=""))
    op.add_column("users", Column("code_needed", Boolean, nullable=False, server_default=false()))
    op.add_column("users", Column("seen_wall_s", Double, nullable=False, server_default="0"))
    op.add_column("sessions", Column("stage", Text, nullable=False, server_default=""))
    op.create_table(
        "factors",
        Column("name", Text, primary_key=True),
        Column("secret", Text, nullable=False),
        Column("confirmed", Boolean, nullable=False),
        Column("last_step", NUMBER, nullable=False),
    )  # fmt: skip
    op.create_table(
        "recovery_codes",
        Column("name", Text, primary_key=True),
        Column("hash", Text, primary_key=True),
    )  # fmt: skip
    if op.get_bind().dialect.name == "sqlite":
        # REPLACE takes the old row away without asking the trigger on delete
        op.execute(
            "create trigger audit_no_replace before insert on audit "
            "when exists (select 1 from audit where id = new.id) "
            "begin select raise(abort, 'the audit is never changed'); end"
        )
