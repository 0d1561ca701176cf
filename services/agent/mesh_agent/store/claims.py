"""SQL of claims: one replica at a time may execute a thread's run (docs/adr/0006)."""

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpg import Record
from mesh_common.database.statements import Statement
from mesh_common.ids import RunId
from mesh_common.subject import Subject

from mesh_agent.domain.attempts import Claim
from mesh_agent.store import Connection, history

CHANNEL = "agent_runs"
"""LISTEN/NOTIFY channel that notifies replicas of pending runs."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A replica: its name, unique per process, and the address other replicas relay to."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What a heartbeat learns about one lease that its replica holds."""

    run_id: RunId
    fence: int
    is_cancel_requested: bool
    is_renewed: bool
    """False while another transaction writes under the lease, e.g. the one that ends its run."""


# A run may be claimed if it is the first unended run of its thread and is pending, or running under an expired lease.
# The lease's row decides between concurrent claims: of two first claims, one waits for the other's commit and then gets
# nothing. A lease whose row is locked is skipped, because waiting for it would delay all other claims.
_CLAIM = """
    WITH expired AS MATERIALIZED (
        SELECT l.thread_id FROM agent.leases l
        WHERE l.expires_at <= clock_timestamp() {expired_condition}
        FOR UPDATE SKIP LOCKED
    ), candidate AS (
        SELECT r.id, r.thread_id, r.org_id, r.user_id
        FROM agent.runs r
        WHERE r.status IN ('pending', 'running') {condition}
          AND (r.thread_id IN (SELECT thread_id FROM expired)
               OR NOT EXISTS (SELECT 1 FROM agent.leases l WHERE l.thread_id = r.thread_id))
          AND NOT EXISTS (
              SELECT 1 FROM agent.runs e
              WHERE e.thread_id = r.thread_id AND e.status IN ('pending', 'running') AND e.position < r.position)
        ORDER BY r.position
        LIMIT :limit
        FOR UPDATE OF r SKIP LOCKED
    ), leased AS (
        INSERT INTO agent.leases AS l (thread_id, org_id, user_id, run_id, owner, owner_address, fence, expires_at)
        SELECT thread_id, org_id, user_id, id, :owner, :address, nextval('agent.fences'),
               clock_timestamp() + make_interval(secs => :ttl_s)
        FROM candidate
        ON CONFLICT (thread_id) DO UPDATE
        SET run_id = excluded.run_id, owner = excluded.owner, owner_address = excluded.owner_address,
            fence = excluded.fence, expires_at = excluded.expires_at
        WHERE l.expires_at <= clock_timestamp()
        RETURNING l.run_id, l.fence
    )
    UPDATE agent.runs r
    SET status = 'running', attempt = r.attempt + 1, started_at = coalesce(r.started_at, clock_timestamp()),
        lost_attempts = r.lost_attempts + (r.status = 'running')::int
    FROM leased, agent.messages m
    WHERE r.id = leased.run_id AND m.run_id = r.id AND m.part = 0
    RETURNING r.id, r.thread_id, coalesce(r.org_id, r.user_id), r.user_id, r.position, r.attempt, leased.fence,
              m.content, r.model, r.trace_context, r.lost_attempts, r.is_cancel_requested, r.plan_hash, r.execution_id,
              {history}
"""
_CLAIM_ANY = Statement("agent.claim_runs", _CLAIM.format(condition="", expired_condition="", history="NULL"))
_CLAIM_ONE = Statement(
    "agent.claim_run",
    _CLAIM.format(
        condition="AND r.id = :run_id",
        expired_condition="AND l.thread_id = (SELECT thread_id FROM agent.runs WHERE id = :run_id)",
        history=history.OF_CLAIMED,
    ),
)


async def claim_runs(connection: Connection, owner: Owner, *, limit: int, ttl_s: float) -> Sequence[Claim]:
    """Claims the oldest claimable runs of all users. Needs the worker role."""
    parameters = {"limit": limit, "owner": owner.name, "address": owner.address, "ttl_s": ttl_s}
    return [_claim(row) for row in await _CLAIM_ANY.rows(connection, parameters)]


async def claim_run(connection: Connection, owner: Owner, run_id: RunId, *, ttl_s: float) -> Claim | None:
    """Claims this run and reads its history, if it is the thread's next run and has no owner.

    The history cannot change while the claim holds: reading it here saves a round trip, and later a transaction.
    """
    parameters = {"limit": 1, "owner": owner.name, "address": owner.address, "ttl_s": ttl_s, "run_id": run_id}
    row = await _CLAIM_ONE.row(connection, parameters)
    return _claim(row) if row else None


def _claim(row: Record) -> Claim:
    *others, pairs = row
    run_id, thread_id, org_id, user_id, position, attempt, fence, message, model, trace, *others = others
    lost, is_cancel_requested, plan_hash, execution_id = others
    return Claim(
        run_id,
        thread_id,
        Subject(org_id, user_id),
        position,
        attempt,
        fence,
        message,
        model,
        trace,
        lost_attempts=lost,
        is_cancel_requested=is_cancel_requested,
        history=None if pairs is None else history.said(pairs),
        plan_hash=plan_hash,
        resumed_execution=execution_id,
    )


async def renew_leases(
    connection: Connection, owner: Owner, run_ids: Sequence[RunId], *, ttl_s: float
) -> Sequence[LeaseState]:
    """The heartbeat: renews the replica's unexpired leases of these runs, in one statement.

    It renews no others, because a run that its replica gave up must become free for another. It waits for no lock: one
    slow transaction must not cost a replica all its other leases.
    """
    rows = await _RENEW.rows(connection, {"owner": owner.name, "run_ids": list(run_ids), "ttl_s": ttl_s})
    return [LeaseState(*row) for row in rows]


_RENEW = Statement(
    "agent.renew_leases",
    """
    WITH held AS (
        SELECT run_id, fence FROM agent.leases
        WHERE owner = :owner AND run_id = ANY(:run_ids) AND expires_at > clock_timestamp()
    ), unlocked AS (
        SELECT thread_id FROM agent.leases
        WHERE owner = :owner AND run_id = ANY(:run_ids) AND expires_at > clock_timestamp()
        FOR UPDATE SKIP LOCKED
    ), renewed AS (
        UPDATE agent.leases l SET expires_at = clock_timestamp() + make_interval(secs => :ttl_s)
        FROM unlocked WHERE l.thread_id = unlocked.thread_id
        RETURNING l.run_id
    )
    SELECT held.run_id, held.fence, r.is_cancel_requested, renewed.run_id IS NOT NULL AS is_renewed
    FROM held JOIN agent.runs r ON r.id = held.run_id LEFT JOIN renewed ON renewed.run_id = held.run_id
""",
)


async def drop_lease(connection: Connection, claim: Claim) -> bool | None:
    """Deletes the lease. Returns whether another run is pending on the thread; None if the fencing number is stale."""
    parameters = {"thread_id": claim.thread_id, "fence": claim.fence}
    row = await _DROP.row(connection, parameters)
    return bool(row["has_waiting"]) if row else None


_DROP = Statement(
    "agent.drop_lease",
    """
    DELETE FROM agent.leases WHERE thread_id = :thread_id AND fence = :fence
    RETURNING EXISTS (SELECT 1 FROM agent.runs WHERE thread_id = :thread_id AND status = 'pending') AS has_waiting
""",
)


async def release_run(connection: Connection, claim: Claim) -> None:
    """Releases an unfinished run, so that another replica can claim it at once.

    Locks the run before its lease, as every transaction that waits for both: the end of a run, the deletion of its
    thread, a flush of its checkpoints.
    """
    await _RELEASE.count(connection, {"run_id": claim.run_id, "fence": claim.fence})
    await notify_pending(connection)


_RELEASE = Statement(
    "agent.release_run",
    """
    WITH locked AS MATERIALIZED (
        SELECT id FROM agent.runs WHERE id = :run_id FOR NO KEY UPDATE
    ), released AS (
        DELETE FROM agent.leases USING locked WHERE leases.run_id = locked.id AND leases.fence = :fence
        RETURNING leases.run_id
    )
    UPDATE agent.runs SET status = 'pending' FROM released WHERE runs.id = released.run_id AND status = 'running'
""",
)


async def notify_pending(connection: Connection) -> None:
    await _NOTIFY.row(connection, {"channel": CHANNEL})


_NOTIFY = Statement("agent.notify_pending", "SELECT pg_notify(:channel, '')")
