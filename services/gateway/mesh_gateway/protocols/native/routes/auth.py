"""Accounts, login and tokens."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form

from mesh_gateway.edge.client_address import UNKNOWN
from mesh_gateway.edge.deps import CallerDep, ClientKeyDep, Gateway, GatewayDep, RecordDep
from mesh_gateway.edge.forms import FormRoute
from mesh_gateway.limits.rate_limit import Limit
from mesh_gateway.protocols.native import answers
from mesh_gateway.protocols.native.routes.docs import problems
from mesh_gateway.protocols.native.schemas.auth import LoginForm, RefreshBody, RegisterBody, Tokens, User

router = APIRouter(prefix="/api/v1/auth", tags=["auth"], route_class=FormRoute)


@router.post(
    "/register",
    status_code=HTTPStatus.CREATED,
    summary="Create an account",
    responses=problems(403, 409, 413, 422, 429),
)
async def register(body: RegisterBody, gateway: GatewayDep, address: ClientKeyDep, record: RecordDep) -> User:
    gateway.auth.room.require()
    await gateway.limits.charge(_limit(gateway, "register"), address, record)
    return answers.user(await gateway.auth.register(body.email, body.password.get_secret_value()))


@router.post(
    "/login",
    summary="Log in",
    description="The password form of OAuth2 (RFC 6749, section 4.3): `username` is the e-mail address.",
    responses=problems(401, 413, 422, 429),
)
async def login(
    form: Annotated[LoginForm, Form()], gateway: GatewayDep, address: ClientKeyDep, record: RecordDep
) -> Tokens:
    gateway.auth.room.require()
    await gateway.limits.charge(_limit(gateway, "login-address"), address, record)
    return answers.tokens(
        await gateway.auth.login(
            form.username,
            form.password.get_secret_value(),
            client_address=None if address == UNKNOWN else address,
        )
    )


@router.post(
    "/refresh",
    summary="Refresh the tokens",
    description=(
        "Gives the next refresh token. The old one gives the same next token for 20 seconds; using it later ends the "
        "session. Reasons of a 401: `INVALID_REFRESH_TOKEN`, or `SESSION_TOO_OLD` at the session's maximum age."
    ),
    responses=problems(401, 413, 422, 429),
)
async def refresh(body: RefreshBody, gateway: GatewayDep, address: ClientKeyDep, record: RecordDep) -> Tokens:
    limit = Limit("refresh-address", gateway.settings.anonymous_limit_per_minute)
    await gateway.limits.charge(limit, address, record)
    return answers.tokens(await gateway.auth.refresh(body.refresh_token.get_secret_value()))


@router.post("/logout", status_code=HTTPStatus.NO_CONTENT, summary="End the session", responses=problems(401, 429))
async def logout(gateway: GatewayDep, caller: CallerDep) -> None:
    await gateway.auth.logout(caller.subject, caller.session_id)
    gateway.tokens.revoke(caller)


@router.get("/me", summary="Get your account", responses=problems(401, 404, 429))
async def get_me(gateway: GatewayDep, caller: CallerDep) -> User:
    return answers.user(await gateway.auth.user(caller.subject))


def _limit(gateway: Gateway, name: str) -> Limit:
    return Limit(name, gateway.settings.login_limit_per_minute)
