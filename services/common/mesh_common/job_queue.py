"""The queue's table as the first migrations create it. Frozen: released migrations import it."""


def job_table_sql(schema: str, name: str = "jobs") -> tuple[str, ...]:
    """Statements that create the table and its indexes. (kind, key) is unique; a finished job's row is deleted."""
    return (
        f"""
        CREATE TABLE {schema}.{name} (
            id uuid PRIMARY KEY,
            kind text NOT NULL,
            key text NOT NULL,
            user_id uuid NOT NULL,
            payload jsonb NOT NULL,
            trace_context jsonb NOT NULL,
            attempt integer NOT NULL DEFAULT 0,
            version integer NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(),
            due_at timestamptz NOT NULL DEFAULT now(),
            first_due_at timestamptz NOT NULL DEFAULT now(),
            leased_until timestamptz,
            UNIQUE (kind, key)
        )
        """,
        f"CREATE INDEX {name}_due ON {schema}.{name} (due_at)",
        f"CREATE INDEX {name}_user ON {schema}.{name} (user_id)",
    )
