"""Dead letters over HTTP: as an administrator, as a user, and without a token."""

from http import HTTPStatus
from typing import Any

import pytest
from support.gateway import Client

LETTERS = "/api/v1/admin/dead-letters"
SERVICES = ("agent", "memory", "eval")
UNKNOWN = "0199f0c4-6666-7c3a-8f11-3a4b5c6d7e8f"
ROUTES = [("GET", f"{LETTERS}?service=agent"), ("POST", f"{LETTERS}/agent/{UNKNOWN}/send-again")]


def as_admin(gateway: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.mesh.auth.access_token(scope='user admin')}"}


async def _listed(gateway: Client, **query: Any) -> dict[str, Any]:
    response = await gateway.http.get(LETTERS, params=query, headers=as_admin(gateway))
    assert response.status_code == HTTPStatus.OK, response.text
    page: dict[str, Any] = response.json()
    return page


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_user_is_refused_before_the_service_is_asked(gateway: Client, method: str, path: str) -> None:
    before = gateway.mesh.dead_letters["agent"].calls

    response = await gateway.http.request(method, path, headers=gateway.as_user())

    assert (response.status_code, response.json()["reason"]) == (403, "ADMIN_REQUIRED")
    assert gateway.mesh.dead_letters["agent"].calls == before


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nobody_is_asked_to_log_in(gateway: Client, method: str, path: str) -> None:
    response = await gateway.http.request(method, path)

    assert response.status_code == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_refusal_of_the_service_is_passed_on(gateway: Client, method: str, path: str) -> None:
    gateway.mesh.dead_letters["agent"].refuses = True
    try:
        response = await gateway.http.request(method, path, headers=as_admin(gateway))
    finally:
        gateway.mesh.dead_letters["agent"].refuses = False

    assert (response.status_code, response.json()["reason"]) == (403, "ADMIN_REQUIRED")


@pytest.mark.parametrize("service", SERVICES)
async def test_letters_of_each_service_are_listed_by_page_and_kind(gateway: Client, service: str) -> None:
    letters = gateway.mesh.dead_letters[service].letters

    first = await _listed(gateway, service=service, limit=1)
    rest = await _listed(gateway, service=service, limit=1, cursor=first["next_cursor"])
    of_kind = await _listed(gateway, service=service, kind=letters[1].kind)

    assert [item["id"] for item in (*first["items"], *rest["items"])] == [letter.id for letter in letters]
    assert rest["next_cursor"] is None
    assert of_kind["items"] == [
        {
            "id": letters[1].id,
            "kind": letters[1].kind,
            "user_id": letters[1].user_id,
            "reason": "UNAVAILABLE",
            "queued_at": "2025-11-24T16:00:00Z",
            "failed_at": "2025-11-24T16:00:00Z",
        }
    ]


async def test_letter_is_sent_again_once(gateway: Client) -> None:
    [letter, *_] = gateway.mesh.dead_letters["eval"].letters
    path = f"{LETTERS}/eval/{letter.id}/send-again"

    sent = await gateway.http.post(path, headers=as_admin(gateway))
    again = await gateway.http.post(path, headers=as_admin(gateway))

    assert (sent.status_code, sent.content, again.status_code) == (204, b"", 404)
    assert letter not in gateway.mesh.dead_letters["eval"].letters


@pytest.mark.parametrize("query", [{}, {"service": "auth"}, {"service": "agent", "kind": "No Kind"}])
async def test_unknown_service_or_kind_is_422(gateway: Client, query: dict[str, str]) -> None:
    response = await gateway.http.get(LETTERS, params=query, headers=as_admin(gateway))

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
