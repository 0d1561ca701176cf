"""The use cases of memory on fakes."""

from fakes.memory.models import FakeEmbedder, FakeExtractor
from fakes.memory.store import FakeUnitOfWork
from mesh_common.ids import UserId, new_id
from mesh_common.subject import Subject
from mesh_memory.domain import Origin, Turn
from mesh_memory.usecases import EditMemories, FairEmbedder, FindMemories, ForgetMemories, KeepTurn, Limits, Remember

from support.subjects import personal
from support.turns import turn_of

LIMITS = Limits(
    recall_timeout_s=0.3,
    embedding_timeout_s=5.0,
    recall_min_similarity=0.3,
    duplicate_similarity=0.95,
    max_memories=3,
    max_queued_turns=2,
    max_extractions=3,
)
USER = personal(UserId(new_id()))


class MemoryOnFakes:
    def __init__(self, origin: Origin = Origin.EXTRACTED) -> None:
        self.unit_of_work = FakeUnitOfWork()
        self.embedder = FakeEmbedder()
        self.extractor = FakeExtractor(origin)
        self.wakes = 0
        self.find = FindMemories(self.unit_of_work, self.embedder, FairEmbedder(self.embedder), LIMITS)
        self.remember = Remember(self.unit_of_work, self._wake, LIMITS)
        self.keep = KeepTurn(self.unit_of_work, self.embedder, self.extractor, LIMITS)
        self.edit = EditMemories(self.unit_of_work, FairEmbedder(self.embedder), LIMITS)
        self.forget = ForgetMemories(self.unit_of_work)

    def _wake(self) -> None:
        self.wakes += 1

    async def kept(self, *said: str) -> Turn:
        """Queues a turn and processes it."""
        turn = turn_of(*said)
        await self.remember(USER, turn)
        await self.keep(USER, turn)
        return turn

    async def texts(self, subject: Subject = USER) -> list[str]:
        return [memory.text for memory in (await self.edit.page(subject, 100, None)).memories]
