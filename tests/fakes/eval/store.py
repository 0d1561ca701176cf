"""`UnitOfWork` in memory; passes the same suite as the real one (tests/contract/eval)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from mesh_common.errors import Unavailable
from mesh_common.subject import Subject
from mesh_eval.domain import JudgedRun, RunScores, Score

Key = tuple[Subject, UUID]


@dataclass
class FakeUnitOfWork:
    """`is_away` makes every transaction fail as with an unreachable database."""

    queued: dict[Key, JudgedRun] = field(default_factory=dict)
    scores: dict[Key, tuple[Score, ...]] = field(default_factory=dict)
    is_away: bool = False

    @asynccontextmanager
    async def as_subject(self, subject: Subject) -> AsyncIterator["FakeEvalStore"]:
        if self.is_away:
            raise Unavailable("The database is not reachable right now.")
        store = FakeEvalStore(subject, dict(self.queued), dict(self.scores))
        yield store
        self.queued, self.scores = store.queued, store.scores


@dataclass
class FakeEvalStore:
    subject: Subject
    queued: dict[Key, JudgedRun]
    scores: dict[Key, tuple[Score, ...]]

    async def queue(self, run: JudgedRun) -> bool:
        key = (self.subject, run.id)
        if key in self.scores or key in self.queued:
            return False
        self.queued[key] = run
        return True

    async def count_queued(self) -> int:
        return len([subject for subject, _ in self.queued if subject == self.subject])

    async def is_judged(self, run_id: UUID) -> bool:
        return (self.subject, run_id) in self.scores

    async def add_scores(self, run: JudgedRun, scores: Sequence[Score]) -> None:
        by_name = tuple(sorted(scores, key=lambda score: score.name))
        self.scores.setdefault((self.subject, run.id), by_name)

    async def list_scores(self, run_id: UUID) -> RunScores:
        key = (self.subject, run_id)
        scores = self.scores.get(key, ())
        return RunScores(scores, is_pending=not scores and key in self.queued)
