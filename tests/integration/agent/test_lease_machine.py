"""Leases as a state machine on the real PostgreSQL: replicas claim, renew, pause, resume and attempt forbidden writes.

The model has these rules: one valid claim per thread, the oldest run first, a fence that only grows, and only the
holder of the newest claim may write, release or end.
"""

from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from mesh_agent.domain.attempts import Claim, LeaseLostError, Outcome
from mesh_agent.domain.runs import RunInput, RunStatus, Usage
from mesh_agent.events.storage import encode_frames
from mesh_agent.execution.ending import EndRun
from mesh_agent.store import claims, starts, threads
from mesh_agent.store.checkpoint_database import CheckpointDatabase
from mesh_agent.store.claims import Owner
from mesh_agent.store.fenced import lock_lease
from mesh_agent.store.starts import Claimant, NewRun
from mesh_common.database.postgres import Database
from mesh_common.ids import RunId, ThreadId, UserId, new_id
from mesh_common.jobs.queue import JobQueue
from sqlalchemy import text
from support.agent import some_user
from support.machines import LoopMachine, explore
from support.subjects import personal

TTL_S = 600.0
OWNERS = (Owner("replica-a", "a:1"), Owner("replica-b", "b:1"))
THREADS = 2


@dataclass
class ModelRun:
    """The expected state of one run."""

    run_id: RunId
    thread: int
    status: RunStatus = RunStatus.PENDING
    attempt: int = 0
    claim: Claim | None = None
    is_valid: bool = False
    """Whether the newest claim's lease has not expired."""


@dataclass
class Model:
    runs: list[ModelRun] = field(default_factory=list)
    stale: list[Claim] = field(default_factory=list)

    def first_unended(self, thread: int) -> ModelRun | None:
        return next((run for run in self.runs if run.thread == thread and not run.status.is_ended), None)

    def claimable(self) -> list[ModelRun]:
        firsts = [self.first_unended(thread) for thread in range(THREADS)]
        return [run for run in firsts if run and not run.is_valid]

    def held(self) -> list[ModelRun]:
        return [run for run in self.runs if run.is_valid]


class Leases(LoopMachine):
    def __init__(self, database: Database, checkpoints: CheckpointDatabase) -> None:
        super().__init__()
        self.database = database
        self.checkpoints = checkpoints
        self.user_id = some_user()
        self.threads = [ThreadId(new_id()) for _ in range(THREADS)]
        self.model = Model()
        self.are_threads_made = False

    @rule(thread=st.integers(0, THREADS - 1))
    def add(self, thread: int) -> None:
        run_id = RunId(new_id())
        self.do(self._add(run_id, thread))
        self.model.runs.append(ModelRun(run_id, thread))

    @rule(thread=st.integers(0, THREADS - 1), owner=st.sampled_from(OWNERS))
    def start(self, thread: int, owner: Owner) -> None:
        """Claimed at once if the thread has no unended run and no lease, not even an expired one."""
        is_free = self.model.first_unended(thread) is None
        run = ModelRun(RunId(new_id()), thread)

        claim = self.do(self._add(run.run_id, thread, Claimant(owner, TTL_S)))

        self.model.runs.append(run)
        assert (claim is not None) == is_free
        if claim:
            assert claim.run_id == run.run_id
            self._take(run, claim)

    @rule(owner=st.sampled_from(OWNERS), limit=st.integers(1, 3))
    def claim(self, owner: Owner, limit: int) -> None:
        expected = sorted(self.model.claimable(), key=self.model.runs.index)

        claimed = self.do(self._claim(owner, limit))

        # A claim may skip a run if another run of its thread locks the row, but must return no run outside these.
        assert [claim.run_id for claim in claimed] == [run.run_id for run in expected[: len(claimed)]]
        assert len(claimed) == min(limit, len(expected))
        for run, claim in zip(expected, claimed, strict=False):
            self._take(run, claim)

    @precondition(lambda self: self.model.held())
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.model.held()))
        owner = data.draw(st.sampled_from(OWNERS))

        renewed = self.do(self._renew(owner, run.run_id))

        assert run.claim is not None
        is_owners = self.do(self._owner_of(run)) == owner.name
        assert [state.fence for state in renewed] == ([run.claim.fence] if is_owners else [])

    @precondition(lambda self: self.model.held())
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.model.held()))
        self.do(self._expire(run))
        run.is_valid = False

    @precondition(lambda self: self.model.held())
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.model.held()))
        assert run.claim is not None
        self.do(self._release(run.claim))
        self._retire(run, RunStatus.PENDING)

    @precondition(lambda self: any(run.claim and not run.status.is_ended for run in self.model.runs))
    @rule(data=st.data(), status=st.sampled_from([RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED]))
    def end(self, data: st.DataObject, status: RunStatus) -> None:
        """By the newest claim. Its lease may have expired unnoticed; as nobody took it over, the run may end."""
        owned = [run for run in self.model.runs if run.claim and not run.status.is_ended]
        run = data.draw(st.sampled_from(owned))
        assert run.claim is not None
        assert self.do(self._may_end(run.claim, status))
        self._retire(run, status)

    @precondition(lambda self: self.model.stale)
    @rule(data=st.data())
    def stale_owner_comes_back(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.model.stale))

        assert not self.do(self._may_end(claim, RunStatus.SUCCEEDED))
        assert not self.do(self._holds(claim))
        self.do(self._release(claim))

    @invariant()
    def database_is_as_the_model(self) -> None:
        stored = self.do(self._stored())
        assert stored == {run.run_id: (run.status, run.attempt) for run in self.model.runs}

    @invariant()
    def ended_runs_have_one_answer(self) -> None:
        ended = sorted(str(run.run_id) for run in self.model.runs if run.status.is_ended)
        assert self.do(self._answers()) == ended

    # --- effects of the rules on the model

    def _take(self, run: ModelRun, claim: Claim) -> None:
        assert claim.attempt == run.attempt + 1
        if run.claim:
            assert claim.fence > run.claim.fence
            self.model.stale.append(run.claim)
        run.claim, run.attempt, run.status, run.is_valid = claim, claim.attempt, RunStatus.RUNNING, True

    def _retire(self, run: ModelRun, status: RunStatus) -> None:
        assert run.claim is not None
        self.model.stale.append(run.claim)
        run.claim, run.status, run.is_valid = None, status, False

    # --- effects of the rules on PostgreSQL

    async def _add(self, run_id: RunId, thread: int, claimant: Claimant | None = None) -> Claim | None:
        async with self.database.as_subject(personal(self.user_id)) as connection:
            if not self.are_threads_made:
                for thread_id in self.threads:
                    await threads.insert_thread(connection, self.user_id, thread_id)
                self.are_threads_made = True
            thread_id = self.threads[thread]
            assert await threads.lock_thread(connection, self.user_id, thread_id)
            new = NewRun(RunInput(run_id, thread_id, "Hi"), b"")
            inserted = await starts.insert_run(connection, personal(self.user_id), thread_id, new, claimant)
        assert inserted
        assert inserted.is_new
        return inserted.claim

    async def _claim(self, owner: Owner, limit: int) -> list[Claim]:
        async with self.database.as_worker() as connection:
            claimed = await claims.claim_runs(connection, owner, limit=limit, ttl_s=TTL_S)
        return sorted(claimed, key=lambda claim: claim.position)

    async def _renew(self, owner: Owner, run_id: RunId) -> list[claims.LeaseState]:
        async with self.database.as_worker() as connection:
            return list(await claims.renew_leases(connection, owner, [run_id], ttl_s=TTL_S))

    async def _expire(self, run: ModelRun) -> None:
        async with self.database.as_worker() as connection:
            statement = "UPDATE agent.leases SET expires_at = clock_timestamp() WHERE run_id = :run_id"
            await connection.execute(text(statement), {"run_id": run.run_id})

    async def _release(self, claim: Claim) -> None:
        async with self.database.as_worker() as connection:
            await claims.release_run(connection, claim)

    async def _may_end(self, claim: Claim, status: RunStatus) -> bool:
        end_run = EndRun(self.database, JobQueue("agent.outbox"), 0.0, 0.0)
        outcome = Outcome(status, "answer", new_id(), "m", {"m": Usage(1, 1)})
        try:
            await end_run(claim, outcome, encode_frames([]), has_checkpoints=True)
        except LeaseLostError:
            return False
        return True

    async def _holds(self, claim: Claim) -> bool:
        async with self.checkpoints.as_subject(personal(self.user_id)) as connection:
            return await lock_lease(connection, claim, ttl_s=TTL_S)

    async def _owner_of(self, run: ModelRun) -> str:
        async with self.database.as_worker() as connection:
            statement = "SELECT owner FROM agent.leases WHERE run_id = :run_id"
            return str((await connection.execute(text(statement), {"run_id": run.run_id})).scalar_one())

    async def _stored(self) -> dict[UUID, tuple[str, int]]:
        async with self.database.as_subject(personal(self.user_id)) as connection:
            rows = await connection.execute(text("SELECT id, status, attempt FROM agent.runs"))
            return {row.id: (row.status, row.attempt) for row in rows}

    async def _answers(self) -> list[str]:
        async with self.database.as_subject(personal(self.user_id)) as connection:
            rows = await connection.execute(text("SELECT run_id FROM agent.messages WHERE part = 1"))
            return sorted(str(row.run_id) for row in rows)

    def teardown(self) -> None:
        self.do(self._clear())

    async def _clear(self) -> None:
        async with self.database.as_subject(personal(UserId(self.user_id))) as connection:
            await connection.execute(text("DELETE FROM agent.threads"))


async def test_leases_keep_their_promises_in_any_order_of_events(
    own_database: Database, own_checkpoints: CheckpointDatabase
) -> None:
    await explore(lambda: Leases(own_database, own_checkpoints), examples=25, steps=25)
