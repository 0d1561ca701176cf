"""Queues a turn."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from mesh_common.errors import Unavailable
from mesh_common.subject import Subject

from mesh_memory.domain import Turn, uncovered
from mesh_memory.metrics import FORGOTTEN
from mesh_memory.ports import UnitOfWork
from mesh_memory.usecases.limits import Limits

log = structlog.get_logger()

_BUSY_RETRY_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Remember:
    """Queues a turn, once per run. Drops those of its runs that began before a deletion that covers them."""

    unit_of_work: UnitOfWork
    wake_worker: Callable[[], None]
    limits: Limits

    async def __call__(self, subject: Subject, turn: Turn) -> None:
        async with self.unit_of_work(subject) as store:
            admission = await store.admission(turn.thread_id)
            left = uncovered(turn, admission.barrier, admission.now)
            _count_forgotten(turn, left)
            if left is None:
                return
            if admission.queued >= self.limits.max_queued_turns:
                raise Unavailable("Too many turns are waiting to be remembered.", retry_after_s=_BUSY_RETRY_AFTER_S)
            is_new = await store.queue(left)
        if is_new:
            self.wake_worker()


def _count_forgotten(turn: Turn, left: Turn | None) -> None:
    runs, runs_left = (len({message.source.run_id for message in one.messages}) if one else 0 for one in (turn, left))
    if runs > runs_left:
        FORGOTTEN.labels("arrival").inc(runs - runs_left)
        log.info("memory.turn_forgotten", run_id=str(turn.run_id), runs=runs - runs_left)
