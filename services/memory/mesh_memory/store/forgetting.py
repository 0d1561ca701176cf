"""The statements about runs to remember and about the barrier: what was said before a deletion is not stored."""

from typing import Final

from mesh_common.database.statements import Statement

# Read as one row, also for a user who never deleted anything.
_BARRIER: Final = """
    SELECT now() AS now, coalesce(one.generation, 0) AS generation, one.forgotten_at,
           EXISTS (SELECT FROM memory.forgotten_threads
                   WHERE user_id = :user_id AND thread_id = :thread_id) AS is_thread_forgotten
           {further}
    FROM (SELECT 1) AS always LEFT JOIN memory.forget_generations AS one ON one.user_id = :user_id
"""
# Without dead letters: nothing the user does makes them fewer.
_QUEUED: Final = "SELECT count(*) FROM memory.jobs WHERE user_id = :user_id AND isfinite(due_at)"
BARRIER: Final = Statement("memory.barrier", _BARRIER.format(further=""))
ADMISSION: Final = Statement(
    "memory.admission",
    _BARRIER.format(further=f", ({_QUEUED}) AS queued"),
)
# The time is taken under the user's lock, after every store that this deletion waited for.
RAISE_GENERATION: Final = Statement(
    "memory.raise_generation",
    """
    INSERT INTO memory.forget_generations AS one (user_id, generation, forgotten_at)
    VALUES (:user_id, 1, clock_timestamp())
    ON CONFLICT (user_id, org_id) DO UPDATE SET
        generation = one.generation + 1, forgotten_at = greatest(one.forgotten_at, excluded.forgotten_at)
    """,
)
OPEN_RUN: Final = Statement(
    "memory.open_run",
    "INSERT INTO memory.remembered_runs (user_id, run_id) VALUES (:user_id, :run_id) ON CONFLICT DO NOTHING",
)
# Longer than the agent's outbox may retry a turn and keep it as a dead letter (`JobSettings`). After that, a run sent
# again would be remembered again.
CLOSE_RUN: Final = Statement(
    "memory.close_run",
    """
    WITH outdated AS (
        DELETE FROM memory.remembered_runs
        WHERE user_id = :user_id AND closed_at IS NOT NULL AND opened_at < now() - interval '90 days'
    )
    UPDATE memory.remembered_runs SET closed_at = now()
    WHERE user_id = :user_id AND run_id = :run_id AND closed_at IS NULL
    RETURNING opened_at
    """,
)
DROP_QUEUE: Final = Statement("memory.drop_queue", "DELETE FROM memory.jobs WHERE user_id = :user_id")
CLOSE_RUNS: Final = Statement(
    "memory.close_runs",
    "UPDATE memory.remembered_runs SET closed_at = now() WHERE user_id = :user_id AND closed_at IS NULL",
)
# A thread's id is never used again, so any turn of it that still arrives was said before.
MARK_THREAD: Final = Statement(
    "memory.mark_thread",
    """
    INSERT INTO memory.forgotten_threads (user_id, thread_id) VALUES (:user_id, :thread_id) ON CONFLICT DO NOTHING
    """,
)
# Later than the agent's outbox may deliver a turn, also as a dead letter that is sent again.
UNMARK_THREADS: Final = Statement(
    "memory.unmark_threads",
    """
    DELETE FROM memory.forgotten_threads WHERE user_id = :user_id AND forgotten_at < now() - interval '90 days'
    """,
)
DROP_THREAD: Final = Statement(
    "memory.drop_thread",
    """
    WITH dropped AS (
        DELETE FROM memory.jobs WHERE user_id = :user_id AND payload ->> 'thread_id' = :thread_id::uuid::text
        RETURNING (payload ->> 'run_id')::uuid AS run_id
    )
    UPDATE memory.remembered_runs AS run SET closed_at = now() FROM dropped
    WHERE run.user_id = :user_id AND run.run_id = dropped.run_id AND run.closed_at IS NULL
    """,
)
# What the worker stored between the deletion of the thread and the message about it.
DELETE_LATE: Final = Statement(
    "memory.delete_late",
    "DELETE FROM memory.memories WHERE user_id = :user_id AND thread_id = :thread_id AND created_at > :deleted_at",
)
# `closed_at IS NULL`: after a deletion nobody pays for the answer any more.
BEGIN_EXTRACTION: Final = Statement(
    "memory.begin_extraction",
    """
    UPDATE memory.remembered_runs SET extractions = extractions + 1
    WHERE user_id = :user_id AND run_id = :run_id AND closed_at IS NULL
    RETURNING extractions
    """,
)
REFUND_EXTRACTION: Final = Statement(
    "memory.refund_extraction",
    """
    UPDATE memory.remembered_runs SET extractions = greatest(extractions - 1, 0)
    WHERE user_id = :user_id AND run_id = :run_id
    """,
)
