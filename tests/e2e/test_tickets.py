"""Stream tickets through the whole mesh: each opens the events of one run, once, without a token."""

import httpx
import pytest
from mesh_dev.mesh_client import MeshClient, events_of
from mesh_dev.stack import Stack
from support.api import User


async def ticket_of(user: User, run_id: str) -> str:
    response = await user.post(f"/runs/{run_id}/ticket")
    assert response.status_code == httpx.codes.CREATED, response.text
    return str(response.json()["ticket"])


async def follow(stack: Stack, run_id: str, **query: str) -> httpx.Response:
    """Follows like a web page that has no token."""
    async with MeshClient(stack.url) as nobody:
        return await nobody.get(f"/runs/{run_id}/events", **query)


def require_refused(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["reason"]) == (401, "INVALID_TICKET"), response.text


async def test_ticket_opens_the_events_of_its_run_once(stack: Stack, user: User) -> None:
    turn = await user.chat("Hello.")
    ticket = await ticket_of(user, turn.run_id)

    first = await follow(stack, turn.run_id, ticket=ticket)
    second = await follow(stack, turn.run_id, ticket=ticket)

    assert [event.id async for event in events_of(first)] == [event.id for event in turn.events]
    require_refused(second)


async def test_ticket_opens_a_live_run_from_a_position(stack: Stack, user: User) -> None:
    thread_id = await user.new_thread()
    body = {"message": "[[sim:itl=30]] [[sim:tokens=60]]"}
    async with user.open_stream(f"/threads/{thread_id}/runs/stream", body) as (_, events):
        seen = [await anext(events) for _ in range(3)]
        ticket = await ticket_of(user, seen[0].run_id)
        watched = await follow(stack, seen[0].run_id, ticket=ticket, last_event_id=seen[-1].id)
        rest = [event async for event in events]

    assert [event.id async for event in events_of(watched)] == [event.id for event in rest]


async def test_ticket_of_another_run_is_refused(stack: Stack, user: User) -> None:
    one, other = await user.chat("One."), await user.chat("Two.")

    require_refused(await follow(stack, other.run_id, ticket=await ticket_of(user, one.run_id)))


async def test_ticket_of_a_stranger_opens_nothing_of_mine(stack: Stack, user: User, stranger: User) -> None:
    mine, theirs = await user.chat("Mine."), await stranger.chat("Theirs.")

    require_refused(await follow(stack, mine.run_id, ticket=await ticket_of(stranger, theirs.run_id)))
    assert (await stranger.post(f"/runs/{mine.run_id}/ticket")).status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize("ticket", ["x", "A" * 43, "%00"])
async def test_invented_ticket_is_refused(stack: Stack, user: User, ticket: str) -> None:
    turn = await user.chat("Hello.")

    require_refused(await follow(stack, turn.run_id, ticket=ticket))


async def test_ticket_of_a_session_that_was_logged_out_is_refused(stack: Stack, user: User) -> None:
    turn = await user.chat("Hello.")
    ticket = await ticket_of(user, turn.run_id)

    await user.post("/auth/logout")

    require_refused(await follow(stack, turn.run_id, ticket=ticket))


async def test_ticket_is_in_no_log(stack: Stack, user: User) -> None:
    turn = await user.chat("Hello.")
    ticket = await ticket_of(user, turn.run_id)

    await follow(stack, turn.run_id, ticket=ticket)
    await follow(stack, turn.run_id, ticket=ticket)

    logs = {path.name: path.read_text(errors="replace") for path in stack.log_dir.glob("*.log")}
    assert turn.run_id in logs["gateway.log"]
    assert [name for name, text in logs.items() if ticket in text] == []
