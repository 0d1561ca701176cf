"""Endpoints for machines: health, and the keys that verify our tokens."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from mesh_gateway.edge.deps import LOGIN_PATH, GatewayDep
from mesh_gateway.protocols.native.routes.docs import problems
from mesh_gateway.protocols.native.schemas.common import Answer

router = APIRouter()

# Clients may cache the keys: the next key is published long before it is used to sign.
_KEYS_CACHE = {"Cache-Control": "public, max-age=300"}


class Health(Answer):
    status: str
    reason: str | None = None


@router.get("/healthz", tags=["health"], summary="Whether the process is alive")
async def get_health() -> Health:
    return Health(status="ok")


@router.get(
    "/readyz",
    tags=["health"],
    summary="Whether this replica accepts requests",
    responses={503: {"description": "It is stopping, or does not know the signing keys yet.", "model": Health}},
)
async def get_readiness(gateway: GatewayDep, response: Response) -> Health:
    reason = gateway.readiness.reason()
    if reason is None:
        return Health(status="ready")
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Health(status="unready", reason=reason)


@router.get(
    "/.well-known/jwks.json",
    tags=["keys"],
    summary="The public keys that verify access tokens (RFC 7517)",
    response_class=JSONResponse,
    response_model=None,
    responses={200: {"content": {"application/json": {"example": {"keys": []}}}}, **problems(429)},
)
async def get_jwks(gateway: GatewayDep) -> Response:
    return Response(gateway.keys.document(), media_type="application/json", headers=_KEYS_CACHE)


@router.get(
    "/.well-known/openid-configuration",
    tags=["keys"],
    summary="The URLs of the issuer's keys and endpoints (OpenID Connect Discovery)",
    responses=problems(429),
)
async def get_openid_configuration(gateway: GatewayDep, response: Response) -> dict[str, Any]:
    response.headers.update(_KEYS_CACHE)
    issuer = gateway.settings.issuer.rstrip("/")
    return {
        "issuer": gateway.settings.issuer,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "token_endpoint": f"{issuer}{LOGIN_PATH}",
        "userinfo_endpoint": f"{issuer}/api/v1/auth/me",
        "grant_types_supported": ["password"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["none"],
    }
