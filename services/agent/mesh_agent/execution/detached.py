"""Work that goes on when whoever waits for it goes away."""

import asyncio
from functools import partial
from typing import Any

import structlog
from mesh_common.errors import MeshError

log = structlog.get_logger()


async def outlived[T](work: "asyncio.Task[T]", what: str) -> T:
    """What `work` gives or raises, which belongs to somebody else and is never cancelled here.

    When the caller goes away before, nobody hears how it failed: one line of the log tells, by the name `what`.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(partial(_tell_failure, what))
        raise
    finally:
        del work  # it holds its error, whose traceback holds this frame: a cycle


def _tell_failure(what: str, work: "asyncio.Task[Any]") -> None:
    error = None if work.cancelled() else work.exception()
    if isinstance(error, MeshError):
        log.warning("outlived.failed", work=what, reason=error.reason)
    elif error:
        log.error("outlived.crashed", work=what, exc_info=error)
