"""The columns of dead letters. Frozen: released migrations import it."""

from mesh_common.database.online import OnlineStep


def add_dead_letter_columns(table: str) -> OnlineStep:
    """`table` is the queue's name with its schema. Reads and rewrites no row."""
    return OnlineStep(
        f"{table}.dead_letters",
        (f"ALTER TABLE {table} ADD COLUMN failed_at timestamptz, ADD COLUMN reason text",),
        "EXISTS (SELECT FROM pg_attribute "
        f"WHERE attrelid = '{table}'::regclass AND attname = 'failed_at' AND NOT attisdropped)",
    )
