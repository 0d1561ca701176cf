"""Assistants: named, versioned descriptions of agents."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Response

from mesh_gateway.edge.costs import ReaderDep, WriterDep
from mesh_gateway.edge.deps import GatewayDep
from mesh_gateway.protocols.native import answers
from mesh_gateway.protocols.native.params import IdempotencyKey, Limit, PageCursor
from mesh_gateway.protocols.native.routes.docs import problems
from mesh_gateway.protocols.native.schemas.assistants import (
    Assistant,
    AssistantName,
    AssistantVersion,
    CreateAssistantBody,
    CurrentVersionBody,
    UpdateAssistantBody,
)
from mesh_gateway.protocols.native.schemas.common import Page

router = APIRouter(prefix="/api/v1/assistants", tags=["assistants"])

_ETAG: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": {"ETag": {"description": "The version, in quotes.", "schema": {"type": "string"}}}}
}
_CREATED: Final[dict[int | str, dict[str, Any]]] = {201: _ETAG[200]}
_CHANGES: Final = (401, 403, 404, 409, 413, 422, 429)
NamePath = Annotated[AssistantName, Path(description="The assistant's name.")]
IfMatch = Annotated[
    str | None,
    Header(
        pattern=r'^(\*|"[0-9a-f]{1,16}")$',
        description="The `ETag` of the version that the change is based on: if another is current by now, 409.",
        examples=['"3"'],
    ),
]


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Make an assistant",
    description="Files of the operator win over the API: a name that one of them has is taken (409).",
    responses={**_CREATED, **problems(401, 403, 409, 413, 422, 429)},
)
async def create_assistant(
    body: CreateAssistantBody,
    response: Response,
    gateway: GatewayDep,
    caller: WriterDep,
    idempotency_key: IdempotencyKey = None,
) -> Assistant:
    spec_json = body.spec.named(body.name).as_json()
    made = await gateway.agent.assistants.create(caller.subject, spec_json, body.visibility, idempotency_key)
    return _tagged(response, answers.assistant(made))


@router.get(
    "",
    summary="List the assistants that you may use, by name",
    description="Those of the operator, your own, and those that others share with your organisation.",
    responses=problems(401, 422, 429),
)
async def list_assistants(
    gateway: GatewayDep, caller: ReaderDep, limit: Limit = 20, cursor: PageCursor = None
) -> Page[Assistant]:
    return answers.page(answers.assistant, await gateway.agent.assistants.list(caller.subject, limit, cursor))


@router.get("/{name}", summary="Get an assistant", responses={**_ETAG, **problems(401, 404, 422, 429)})
async def get_assistant(
    name: NamePath,
    response: Response,
    gateway: GatewayDep,
    caller: ReaderDep,
    version: Annotated[AssistantVersion | None, Query(description="The current one if absent.")] = None,
) -> Assistant:
    return _tagged(response, answers.assistant(await gateway.agent.assistants.get(caller.subject, name, version)))


@router.put(
    "/{name}",
    summary="Change an assistant: store a new version, which becomes the current one",
    description="For its creator and holders of `assistants:manage`. Runs in progress keep their version.",
    responses={**_ETAG, **problems(*_CHANGES)},
)
async def update_assistant(
    name: NamePath,
    body: UpdateAssistantBody,
    response: Response,
    gateway: GatewayDep,
    caller: WriterDep,
    if_match: IfMatch = None,
) -> Assistant:
    changed = await gateway.agent.assistants.update(
        caller.subject, body.spec.named(name).as_json(), _version(if_match), body.visibility
    )
    return _tagged(response, answers.assistant(changed))


@router.delete(
    "/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete an assistant with all versions",
    description="Runs in progress go on with their plans.",
    responses=problems(401, 403, 404, 409, 422, 429),
)
async def delete_assistant(name: NamePath, gateway: GatewayDep, caller: WriterDep, if_match: IfMatch = None) -> None:
    await gateway.agent.assistants.delete(caller.subject, name, _version(if_match))


@router.get("/{name}/versions", summary="List versions, newest first", responses=problems(401, 404, 422, 429))
async def list_assistant_versions(
    name: NamePath, gateway: GatewayDep, caller: ReaderDep, limit: Limit = 20, cursor: PageCursor = None
) -> Page[Assistant]:
    found = await gateway.agent.assistants.versions(caller.subject, name, limit, cursor)
    return answers.page(answers.assistant, found)


@router.put(
    "/{name}/current",
    summary="Make an earlier version the current one",
    responses={**_ETAG, **problems(*_CHANGES)},
)
async def set_current_version(
    name: NamePath,
    body: CurrentVersionBody,
    response: Response,
    gateway: GatewayDep,
    caller: WriterDep,
    if_match: IfMatch = None,
) -> Assistant:
    changed = await gateway.agent.assistants.set_current(caller.subject, name, body.version, _version(if_match))
    return _tagged(response, answers.assistant(changed))


@router.post(
    "/{name}/disable",
    summary="Disable an assistant",
    description=(
        "No run of it starts and none is resumed; runs in progress are cancelled within 5 seconds. For its creator "
        "and holders of `assistants:manage`; for assistants of the operator, administrators alone."
    ),
    responses={**_ETAG, **problems(401, 403, 404, 422, 429)},
)
async def disable_assistant(name: NamePath, response: Response, gateway: GatewayDep, caller: WriterDep) -> Assistant:
    changed = await gateway.agent.assistants.set_disabled(caller.subject, name, is_disabled=True)
    return _tagged(response, answers.assistant(changed))


@router.post(
    "/{name}/enable",
    summary="Enable a disabled assistant",
    responses={**_ETAG, **problems(401, 403, 404, 422, 429)},
)
async def enable_assistant(name: NamePath, response: Response, gateway: GatewayDep, caller: WriterDep) -> Assistant:
    changed = await gateway.agent.assistants.set_disabled(caller.subject, name, is_disabled=False)
    return _tagged(response, answers.assistant(changed))


def _tagged(response: Response, shown: Assistant) -> Assistant:
    if shown.version:
        response.headers["ETag"] = f'"{shown.version}"'
    return shown


def _version(if_match: str | None) -> str | None:
    """`*` matches whatever is current."""
    return None if if_match in (None, "*") else if_match.strip('"')
