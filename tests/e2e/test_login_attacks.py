"""Attacks on the passwords of one account, over HTTP and from several addresses of the loopback network."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
from mesh_common.ids import new_id
from mesh_dev.mesh_client import API
from mesh_dev.stack import Stack
from support.api import PASSWORD

WRONG = "wrong horse battery staple"


class Clients:
    """HTTP clients, each of which connects from an address of its own."""

    def __init__(self, stack: Stack, exits: AsyncExitStack) -> None:
        self._stack = stack
        self._exits = exits

    async def at(self, address: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(local_address=address)
        return await self._exits.enter_async_context(
            httpx.AsyncClient(base_url=self._stack.url, transport=transport, timeout=20)
        )


@pytest.fixture
async def clients(stack: Stack) -> AsyncIterator[Clients]:
    async with AsyncExitStack() as exits:
        yield Clients(stack, exits)


@pytest.fixture
async def email(clients: Clients) -> str:
    """The address of a new account."""
    email = f"{new_id().hex}@example.com"
    body = {"email": email, "password": PASSWORD}
    response = await (await clients.at("127.0.0.3")).post(f"{API}/auth/register", json=body)
    assert response.status_code == 201, response.text
    return email


async def _login(client: httpx.AsyncClient, username: str, password: str = WRONG) -> httpx.Response:
    return await client.post(f"{API}/auth/login", data={"username": username, "password": password})


async def test_spellings_of_an_address_share_one_limit(clients: Clients, email: str) -> None:
    stranger = await clients.at("127.0.0.66")
    local, _, domain = email.partition("@")
    typed = [
        f"{local}@{domain[:n]}{mark}{domain[n:]}" for n in range(1, 11) for mark in "\u034f\ufe0f\u200b\u00ad\u2060"
    ]
    typed += [f"{local}@\uff45xample.com", f"{local}@example\u3002com", f"{local[:3]}\u034f{local[3:]}@{domain}"]

    wrong = [(await _login(stranger, spelling)).status_code for spelling in typed]
    right = [await _login(stranger, spelling, PASSWORD) for spelling in typed[-3:]]

    # A slow machine reaches the end of the first waits, of 15 and 30 s.
    assert 10 <= wrong.count(401) <= 12
    assert wrong.count(429) == len(typed) - wrong.count(401)
    for response in right:
        assert (response.status_code, response.json()["reason"]) == (429, "RATE_LIMITED")
        assert 1 <= int(response.headers["retry-after"]) <= 60


async def test_stranger_does_not_lock_the_owner_out(clients: Clients, email: str) -> None:
    stranger = await clients.at("127.0.0.67")
    answers = [(await _login(stranger, email)).status_code for _ in range(20)]

    owner = await _login(await clients.at("127.0.0.68"), email, PASSWORD)

    assert answers[-1] == 429
    assert owner.status_code == 200, owner.text


async def test_a_stranger_learns_nothing_about_which_accounts_exist(clients: Clients, email: str) -> None:
    stranger = await clients.at("127.0.0.69")
    seen = []
    for name in (email, f"{new_id().hex}@example.com"):
        answers = [await _login(stranger, name) for _ in range(12)]
        seen.append([(one.status_code, one.json()["reason"], one.json()["detail"]) for one in answers])

    assert seen[0] == seen[1]


@pytest.mark.parametrize("around", ["{} ", " {}", "{}\n"])
async def test_space_around_an_address_is_ignored_at_login(clients: Clients, email: str, around: str) -> None:
    response = await _login(await clients.at("127.0.0.70"), around.format(email), PASSWORD)

    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "bad", ["ada@exa mple.com", "ada@", "\u200b@example.com", "ada@@example.com", "\u3164\u3164\u3164"]
)
async def test_address_without_a_canonical_form_cannot_register(clients: Clients, bad: str) -> None:
    body = {"email": bad, "password": PASSWORD}

    response = await (await clients.at("127.0.0.71")).post(f"{API}/auth/register", json=body)

    assert response.status_code == 422, response.text
    assert [error["field"] for error in response.json()["errors"]] == ["email"]
