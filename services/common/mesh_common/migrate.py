"""Row-level security as the first migrations enable it. Frozen: released migrations import it."""

from collections.abc import Iterable

from alembic import op


def enable_row_security(schema: str, tables: Iterable[str]) -> None:
    """The app role sees its user's rows of these tables (column `user_id`), the worker role all rows."""
    mine = "user_id = nullif(current_setting('mesh.user_id', true), '')::uuid"
    for table in tables:
        name = f"{schema}.{table}"
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_rows ON {name} TO {schema}_app USING ({mine}) WITH CHECK ({mine})")
        op.execute(f"CREATE POLICY all_rows ON {name} TO {schema}_worker USING (true) WITH CHECK (true)")
