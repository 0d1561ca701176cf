"""Background jobs that failed for days, for administrators."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from mesh_gateway.clients.dead_letters import DeadLettersClient
from mesh_gateway.edge.costs import ReaderDep, WriterDep
from mesh_gateway.edge.deps import AdminDep, Gateway, GatewayDep
from mesh_gateway.edge.patterns import JOB_KIND
from mesh_gateway.protocols.native import answers
from mesh_gateway.protocols.native.params import Limit, PageCursor
from mesh_gateway.protocols.native.routes.docs import problems
from mesh_gateway.protocols.native.schemas.admin_jobs import DeadLetter, JobService
from mesh_gateway.protocols.native.schemas.common import Page

router = APIRouter(prefix="/api/v1/admin/dead-letters", tags=["admin"])
ServiceName = Annotated[JobService, Query(description="The service whose jobs are listed.")]
Kind = Annotated[
    str | None,
    Query(pattern=JOB_KIND, description="Only jobs of this kind.", examples=["record_usage"]),
]


@router.get(
    "",
    summary="List background jobs that were given up, last failed first",
    description="Jobs are retried for days and then kept as dead letters. Texts of users are never shown.",
    responses=problems(401, 403, 422, 429),
)
async def list_dead_letters(
    gateway: GatewayDep,
    caller: AdminDep,
    _charged: ReaderDep,
    service: ServiceName,
    kind: Kind = None,
    limit: Limit = 20,
    cursor: PageCursor = None,
) -> Page[DeadLetter]:
    found = await _letters_of(gateway, service).list(caller.subject, kind, limit, cursor)
    return answers.page(answers.dead_letter, found)


@router.post(
    "/{service}/{letter_id}/send-again",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Send a dead letter again",
    description="The job is due at once and has the whole time for retries again. 404 if it was sent again already.",
    responses=problems(401, 403, 404, 422, 429),
)
async def send_dead_letter_again(
    gateway: GatewayDep, caller: AdminDep, _charged: WriterDep, service: JobService, letter_id: UUID
) -> None:
    await _letters_of(gateway, service).send_again(caller.subject, letter_id)


def _letters_of(gateway: Gateway, service: JobService) -> DeadLettersClient:
    match service:
        case JobService.AGENT:
            return gateway.agent.dead_letters
        case JobService.MEMORY:
            return gateway.memory.dead_letters
        case JobService.EVAL:
            return gateway.evals.dead_letters
