"""All accounts, for administrators."""

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter
from mesh_common.ids import UserId

from mesh_gateway.edge.costs import AdminReaderDep, AdminWriterDep
from mesh_gateway.edge.deps import AdminDep, GatewayDep
from mesh_gateway.protocols.native import answers
from mesh_gateway.protocols.native.params import Limit, PageCursor
from mesh_gateway.protocols.native.routes.docs import problems
from mesh_gateway.protocols.native.schemas.common import Page
from mesh_gateway.protocols.native.schemas.users import Account, CreateUserBody, SetPasswordBody

router = APIRouter(prefix="/api/v1/admin/users", tags=["admin"])


@router.get("", summary="List accounts, newest first", responses=problems(401, 403, 422, 429))
async def list_users(
    gateway: GatewayDep, caller: AdminReaderDep, limit: Limit = 20, cursor: PageCursor = None
) -> Page[Account]:
    return answers.page(answers.account, await gateway.auth.users.list(caller.subject, limit, cursor))


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Create an account for somebody",
    description="Works even if registration is closed.",
    responses=problems(401, 403, 409, 413, 422, 429),
)
async def create_user(body: CreateUserBody, gateway: GatewayDep, caller: AdminWriterDep) -> Account:
    password = body.password.get_secret_value()
    return answers.account(await gateway.auth.users.create(caller.subject, body.email, password))


@router.get("/{user_id}", summary="Get an account", responses=problems(401, 403, 404, 422, 429))
async def read_user(user_id: UUID, gateway: GatewayDep, caller: AdminDep) -> Account:
    return answers.account(await gateway.auth.users.read(caller.subject, UserId(user_id)))


@router.post(
    "/{user_id}/password",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Replace a user's password",
    description="Ends all sessions of the user.",
    responses=problems(401, 403, 404, 413, 422, 429),
)
async def set_password(user_id: UUID, body: SetPasswordBody, gateway: GatewayDep, caller: AdminWriterDep) -> None:
    password = body.password.get_secret_value()
    await gateway.auth.users.set_password(caller.subject, UserId(user_id), password)


@router.post(
    "/{user_id}/disable",
    summary="Disable an account",
    description=(
        "Refuses the user's logins and ends all of their sessions: their tokens are rejected within 5 seconds. Runs "
        "continue. Your own account and the last administrator's cannot be disabled (409)."
    ),
    responses=problems(401, 403, 404, 409, 422, 429),
)
async def disable_user(user_id: UUID, gateway: GatewayDep, caller: AdminWriterDep) -> Account:
    return answers.account(await gateway.auth.users.disable(caller.subject, UserId(user_id)))


@router.post(
    "/{user_id}/enable",
    summary="Enable a disabled account",
    description="The user can log in again. Sessions from before stay ended.",
    responses=problems(401, 403, 404, 422, 429),
)
async def enable_user(user_id: UUID, gateway: GatewayDep, caller: AdminWriterDep) -> Account:
    return answers.account(await gateway.auth.users.enable(caller.subject, UserId(user_id)))
