"""Work that continues when the caller that awaits it goes away."""

import asyncio
from functools import partial
from typing import Any

import structlog
from mesh_common.errors import MeshError

log = structlog.get_logger()


async def await_detached[T](work: "asyncio.Task[T]", what: str) -> T:
    """Returns what `work` returns, or raises what it raises. Another owner holds the task; this never cancels it.

    If the caller goes away first and the work then fails, one log line reports the failure under the name `what`.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(partial(_log_failure, what))
        raise


def _log_failure(what: str, work: "asyncio.Task[Any]") -> None:
    error = None if work.cancelled() else work.exception()
    if isinstance(error, MeshError):
        log.warning("detached.failed", work=what, reason=error.reason)
    elif error:
        log.error("detached.crashed", work=what, exc_info=error)
