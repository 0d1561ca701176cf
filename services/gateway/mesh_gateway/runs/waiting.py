"""A run as it stands when it has ended, or when waiting for that has taken long enough."""

import asyncio
from contextlib import aclosing, suppress

from mesh_common.errors import PreconditionFailed, Unavailable
from mesh_common.ids import RunId
from starlette.requests import Request
from starlette.responses import Response

from mesh_gateway.edge.deps import Gateway
from mesh_gateway.edge.request_record import CLIENT_GONE, record_of
from mesh_gateway.identity.access_tokens import Principal
from mesh_gateway.limits.stream_slots import while_connected
from mesh_gateway.protocols.native.schemas.runs import Run
from mesh_gateway.runs.turn import EVENTS_EXPIRED, Turn, open_turn


async def run_within(
    gateway: Gateway, request: Request, caller: Principal, run_id: RunId, wait_s: float
) -> Run | Response:
    """Waits by following the run, so that its end is known at once and nobody polls.

    A replica that stops answers earlier, with the run as it stands: the client asks the next replica. Raises as
    following a run does.
    """
    run = await gateway.agent.run(caller.user_id, run_id)
    if run.has_ended or not wait_s:
        return run
    source = gateway.agent.follow_run(caller.user_id, run_id, None)
    try:
        turn = await open_turn(gateway, record_of(request.scope), caller, source, None)
    except PreconditionFailed as error:
        if error.reason != EVENTS_EXPIRED:
            raise
        return await gateway.agent.run(caller.user_id, run_id)
    async with turn.resources:
        is_there = True
        # Following raises no error of its own: this is the replica that stops.
        with suppress(Unavailable):
            is_there = bool(await while_connected(request.receive, turn.slot, _ended(turn, wait_s)))
    return await gateway.agent.run(caller.user_id, run_id) if is_there else Response(status_code=CLIENT_GONE)


async def _ended(turn: Turn, limit_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s), aclosing(turn.events) as events:
            async for _ in events:
                pass
    return True
