"""Resources of another user are not found: 404 on every route that names a resource."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from mesh_common.ids import new_id
from mesh_dev.stack import Stack
from support.api import User, eventually, new_user


@dataclass(frozen=True)
class Things:
    """One resource of each kind, all of the same user."""

    thread: str
    run: str
    memory: str


@pytest.fixture(scope="module")
async def user(stack: Stack) -> AsyncIterator[User]:
    """The owner of all resources. All tests share them, because strangers cannot change them."""
    async with new_user(stack.url) as owner:
        yield owner


@pytest.fixture(scope="module")
async def things(user: User) -> Things:
    turn = await user.chat("My cat is called Tom.")
    memories = await eventually("the memory", lambda: user.items("/memories"), lambda items: len(items) > 0)
    return Things(turn.thread_id, turn.run_id, memories[0]["id"])


DECISIONS = {"decisions": [{"call_id": "call_0", "decision": "approve"}]}
ROUTES = [
    ("GET", "/threads/{thread}", None),
    ("PATCH", "/threads/{thread}", {"title": "mine now"}),
    ("DELETE", "/threads/{thread}", None),
    ("GET", "/threads/{thread}/messages", None),
    ("POST", "/threads/{thread}/fork", {}),
    ("GET", "/threads/{thread}/runs", None),
    ("GET", "/threads/{thread}/runs?status=succeeded", None),
    ("POST", "/threads/{thread}/runs", {"message": "hello"}),
    ("POST", "/threads/{thread}/runs/stream", {"message": "hello"}),
    ("POST", "/threads/{thread}/runs/wait", {"message": "hello"}),
    ("GET", "/runs/{run}", None),
    ("GET", "/runs/{run}?wait_s=5", None),
    ("GET", "/runs/{run}/events", None),
    ("POST", "/runs/{run}/ticket", None),
    ("POST", "/runs/{run}/cancel", {}),
    ("POST", "/runs/{run}/resume", DECISIONS),
    ("POST", "/runs/{run}/resume/stream", DECISIONS),
    ("POST", "/runs/{run}/resume/wait", DECISIONS),
    ("GET", "/runs/{run}/scores", None),
    ("GET", "/memories/{memory}", None),
    ("PATCH", "/memories/{memory}", {"text": "mine now"}),
    ("DELETE", "/memories/{memory}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_another_users_thing_and_an_unknown_one_are_not_found_alike(
    user: User, stranger: User, things: Things, method: str, path: str, body: dict[str, object] | None
) -> None:
    url = "/api/v1" + path
    theirs = url.format(thread=things.thread, run=things.run, memory=things.memory)
    unknown = url.format(thread=new_id(), run=new_id(), memory=new_id())

    foreign = await stranger.http.request(method, theirs, json=body)
    missing = await stranger.http.request(method, unknown, json=body)
    forged = await stranger.http.request(method, theirs, json=body, headers={"mesh-on-behalf-of": user.email})

    assert [response.status_code for response in (foreign, missing, forged)] == [404, 404, 404], foreign.text
    assert foreign.json() | {"trace_id": ""} == missing.json() | {"trace_id": ""}


async def test_strangers_change_nothing(user: User, stranger: User, things: Things) -> None:
    for method, path, body in ROUTES:
        await stranger.http.request(
            method,
            "/api/v1" + path.format(thread=things.thread, run=things.run, memory=things.memory),
            json=body,
        )

    question, _ = await user.messages(things.thread)
    assert question["content"] == "My cat is called Tom."
    assert await user.memories() == ["My cat is called Tom."]
    assert (await user.get(f"/threads/{things.thread}")).json()["title"] == ""


async def test_lists_and_searches_hold_only_what_is_ones_own(user: User, stranger: User, things: Things) -> None:
    assert [thread["id"] for thread in await user.items("/threads")] == [things.thread]
    assert await stranger.items("/threads") == []
    assert await stranger.items("/memories") == []
    found = await stranger.post("/memories/search", {"query": "My cat is called Tom."})
    assert found.json()["items"] == []
    assert (await stranger.chat("What is my cat called? My cat is called Tom.")).memories == []


async def test_chat_in_anothers_thread_is_not_found(user: User, stranger: User, things: Things) -> None:
    response = await stranger.post("/chatbot/chat", {"message": "hello", "thread_id": things.thread})

    assert response.status_code == 404
    assert len(await user.messages(things.thread)) == 2


async def test_position_in_anothers_run_gives_nothing(stranger: User, things: Things) -> None:
    response = await stranger.post("/chatbot/chat/stream", {"message": "hello"}, last_event_id=f"{things.run}:1:1")

    assert response.status_code == 404
