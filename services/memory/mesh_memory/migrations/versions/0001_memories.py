"""Memories with their vectors, the runs that were remembered, and the queue."""

from alembic import op
from mesh_common.job_queue import job_table_sql
from mesh_common.migrate import enable_row_security

revision = "0001"
down_revision = None


def upgrade() -> None:
    # The dimension stands in `embedding_model`, not in the type: another model may come without a rewrite. There is no
    # HNSW index: it ignores the user, and with 100 users most searches through one find nothing. A user's own rows,
    # found by the B-tree, are few enough to be compared one by one.
    op.execute(
        """
        CREATE TABLE memory.memories (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL,
            text text NOT NULL CHECK (char_length(text) BETWEEN 1 AND 2000),
            text_hash bytea NOT NULL,
            origin text NOT NULL CHECK (origin IN ('extracted', 'verbatim', 'written')),
            run_id uuid,
            embedding_model text NOT NULL,
            embedding public.vector NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (user_id, text_hash)
        )
        """
    )
    op.execute("CREATE INDEX memories_user_model ON memory.memories (user_id, embedding_model)")
    op.execute("CREATE INDEX memories_page ON memory.memories (user_id, created_at DESC, id DESC)")
    # A row is the permission to store what its run gave, once: `closed_at` is set when it was used or taken away.
    op.execute(
        """
        CREATE TABLE memory.remembered_runs (
            user_id uuid NOT NULL,
            run_id uuid NOT NULL,
            opened_at timestamptz NOT NULL DEFAULT now(),
            closed_at timestamptz,
            PRIMARY KEY (user_id, run_id)
        )
        """
    )
    for statement in job_table_sql("memory"):
        op.execute(statement)
    enable_row_security("memory", ["memories", "remembered_runs", "jobs"])
