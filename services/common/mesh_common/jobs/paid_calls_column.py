"""The column that counts paid calls. Frozen: released migrations import it."""

from mesh_common.database.online import OnlineStep


def add_paid_calls_column(table: str) -> OnlineStep:
    """`table` is the queue's name with its schema. Reads and rewrites no row."""
    return OnlineStep(
        f"{table}.paid_calls",
        (f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS paid_calls integer NOT NULL DEFAULT 0",),
        "EXISTS (SELECT FROM pg_attribute "
        f"WHERE attrelid = '{table}'::regclass AND attname = 'paid_calls' AND NOT attisdropped)",
    )
