"""What an address may do without an account: invalid tokens, and the documents that anyone may read."""

from collections.abc import AsyncIterator
from http import HTTPStatus

import httpx
import pytest
from mesh_common.jwt import SigningKey, new_private_key_pem
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, running_gateway

THREADS = "/api/v1/threads"
DOCUMENTS = ("/openapi.json", "/.well-known/jwks.json", "/.well-known/openid-configuration")
HERE = {"X-Forwarded-For": "198.51.100.1"}
THERE = {"X-Forwarded-For": "203.0.113.7"}


@pytest.fixture
async def limited(mesh: FakeMesh, valkey: EmbeddedValkey) -> AsyncIterator[Client]:
    """Three of each are free."""
    settings = {"anonymous_limit_per_minute": 3, "trusted_proxy_hops": 1}
    async with running_gateway(mesh, valkey.url, **settings) as client:
        yield client


def _forged(gateway: Client) -> dict[str, str]:
    auth = gateway.mesh.auth
    return {"Authorization": f"Bearer {auth.access_token(key=SigningKey(auth.key.kid, new_private_key_pem()))}"}


async def _statuses(gateway: Client, *headers: dict[str, str], path: str = THREADS) -> list[int]:
    return [(await gateway.http.get(path, headers=one)).status_code for one in headers]


def _is_refusal(response: httpx.Response) -> bool:
    return (
        response.status_code == HTTPStatus.TOO_MANY_REQUESTS
        and response.json()["reason"] == "RATE_LIMITED"
        and 1 <= int(response.headers["retry-after"]) <= 60
    )


async def test_invalid_tokens_from_one_address_are_limited(limited: Client) -> None:
    expired = {"Authorization": f"Bearer {limited.mesh.auth.access_token(exp=1)}"}

    checked = await _statuses(limited, *({**token, **HERE} for token in (expired, _forged(limited), expired)))
    refused = await limited.http.get(THREADS, headers={**_forged(limited), **HERE})
    stream = await limited.http.get(f"/api/v1/runs/{'0' * 8}-0000-7000-8000-{'0' * 12}/events", headers=expired | HERE)

    assert checked == [401] * 3
    assert _is_refusal(refused)
    assert _is_refusal(stream)


async def test_users_do_not_feel_the_attack_of_a_neighbour(limited: Client) -> None:
    user, newcomer, other = (limited.as_user() for _ in range(3))
    assert await _statuses(limited, user | HERE) == [200]
    await _statuses(limited, *(_forged(limited) | HERE for _ in range(5)))

    assert await _statuses(limited, *[user | HERE] * 10) == [200] * 10
    assert await _statuses(limited, other | THERE) == [200]
    # The price: nobody can know whether this one is valid without the work that is limited.
    assert await _statuses(limited, newcomer | HERE) == [429]


async def test_valid_and_missing_tokens_cost_nothing(limited: Client) -> None:
    assert await _statuses(limited, *(limited.as_user() | HERE for _ in range(10))) == [200] * 10
    assert await _statuses(limited, *[HERE] * 10) == [401] * 10
    assert await _statuses(limited, _forged(limited) | HERE) == [401]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_documents_are_limited_together(limited: Client, method: str) -> None:
    read = [(await limited.http.request(method, path, headers=HERE)).status_code for path in DOCUMENTS]
    refused = [await limited.http.get(path, headers=HERE) for path in DOCUMENTS]

    assert read == [200] * 3
    assert all(_is_refusal(one) for one in refused)
    assert refused[0].headers["x-trace-id"]
    assert await _statuses(limited, THERE, path=DOCUMENTS[0]) == [200]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_never_limited(limited: Client, path: str) -> None:
    await _statuses(limited, *[HERE] * 5, path=DOCUMENTS[1])

    assert await _statuses(limited, *[HERE] * 10, path=path) == [200] * 10
