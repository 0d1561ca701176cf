"""The routes of administrators: each as an administrator, as a user, and without a token."""

from http import HTTPStatus

import pytest
from mesh_common.ids import new_id
from support.gateway import Client

USERS = "/api/v1/admin/users"
PASSWORD = "seven green kettles whistle"
ROUTES = [
    ("GET", USERS, None),
    ("POST", USERS, {"email": "ada@example.com", "password": PASSWORD}),
    ("GET", f"{USERS}/{{user_id}}", None),
    ("POST", f"{USERS}/{{user_id}}/password", {"password": PASSWORD}),
    ("POST", f"{USERS}/{{user_id}}/disable", None),
    ("POST", f"{USERS}/{{user_id}}/enable", None),
]


def as_admin(gateway: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.mesh.auth.access_token(scope='user admin')}"}


async def _created(gateway: Client, admin: dict[str, str]) -> dict[str, object]:
    body = {"email": f"{new_id()}@example.com", "password": PASSWORD}
    response = await gateway.http.post(USERS, json=body, headers=admin)
    assert response.status_code == HTTPStatus.CREATED, response.text
    account: dict[str, object] = response.json()
    return account


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_user_is_refused_before_auth_is_asked(
    gateway: Client, method: str, path: str, body: dict[str, str] | None
) -> None:
    before = gateway.mesh.auth.admin_calls

    response = await gateway.http.request(method, path.format(user_id=new_id()), json=body, headers=gateway.as_user())

    assert (response.status_code, response.json()["reason"]) == (403, "ADMIN_REQUIRED")
    assert gateway.mesh.auth.admin_calls == before


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_nobody_is_asked_to_log_in(gateway: Client, method: str, path: str, body: dict[str, str] | None) -> None:
    response = await gateway.http.request(method, path.format(user_id=new_id()), json=body)

    assert response.status_code == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_auths_refusal_is_passed_on(gateway: Client, method: str, path: str, body: dict[str, str] | None) -> None:
    """The token still has the scope, but the account is no administrator's any more."""
    gateway.mesh.auth.has_no_admins = True
    try:
        response = await gateway.http.request(
            method, path.format(user_id=new_id()), json=body, headers=as_admin(gateway)
        )
    finally:
        gateway.mesh.auth.has_no_admins = False

    assert (response.status_code, response.json()["reason"]) == (403, "ADMIN_REQUIRED")


async def test_account_is_created_read_disabled_and_enabled(gateway: Client) -> None:
    admin = as_admin(gateway)
    account = await _created(gateway, admin)
    path = f"{USERS}/{account['id']}"

    read = await gateway.http.get(path, headers=admin)
    disabled = await gateway.http.post(f"{path}/disable", headers=admin)
    enabled = await gateway.http.post(f"{path}/enable", headers=admin)

    assert read.json() == account == enabled.json()
    assert account["disabled_at"] is None
    assert disabled.json()["disabled_at"] == "2025-11-24T16:00:01Z"


async def test_password_is_replaced(gateway: Client) -> None:
    admin = as_admin(gateway)
    account = await _created(gateway, admin)
    other = f"{PASSWORD} again"

    response = await gateway.http.post(f"{USERS}/{account['id']}/password", json={"password": other}, headers=admin)

    assert (response.status_code, response.content) == (204, b"")
    login = await gateway.http.post("/api/v1/auth/login", data={"username": account["email"], "password": other})
    assert login.status_code == HTTPStatus.OK


async def test_accounts_are_listed_in_pages(gateway: Client) -> None:
    admin = as_admin(gateway)
    made = {(await _created(gateway, admin))["id"] for _ in range(3)}

    found: list[str] = []
    cursor: str | None = None
    while cursor or not found:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await gateway.http.get(USERS, params=query, headers=admin)).json()
        found += [account["id"] for account in page["items"]]
        cursor = page["next_cursor"]

    assert made <= set(found)
    assert len(found) == len(set(found))


async def test_unknown_account_is_404_and_a_taken_address_409(gateway: Client) -> None:
    admin = as_admin(gateway)
    account = await _created(gateway, admin)

    unknown = await gateway.http.get(f"{USERS}/{new_id()}", headers=admin)
    taken = await gateway.http.post(USERS, json={"email": account["email"], "password": PASSWORD}, headers=admin)

    assert (unknown.status_code, taken.status_code) == (404, 409)


async def test_short_password_is_422_and_not_repeated(gateway: Client) -> None:
    body = {"email": "ada@example.com", "password": "tooshort"}

    response = await gateway.http.post(USERS, json=body, headers=as_admin(gateway))

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert "tooshort" not in response.text
