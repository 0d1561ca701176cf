"""Stream tickets are valid once, for one run, for one minute, on any replica, and appear in no log or trace."""

import asyncio
import hashlib
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import quote

import httpx
import orjson
import pytest
import structlog
from fakes.gateway.fake_runs import FakeRun
from mesh_common.ids import UserId, new_id
from mesh_common.subject import Subject
from mesh_dev.valkey import EmbeddedValkey
from redis.asyncio import Redis
from support.gateway import Client, FakeMesh, frames_of, running_gateway
from support.gateway_tickets import require_refused
from support.ids import SOME_ID
from support.net import free_port
from support.spans import RecordedSpans, spans

__all__ = ["spans"]


@pytest.fixture
def user(gateway: Client) -> dict[str, str]:
    return gateway.as_user()


@pytest.fixture
async def run(gateway: Client, user: dict[str, str]) -> FakeRun:
    """An ended run of `user`."""
    await gateway.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=user)
    return gateway.mesh.agent.runs[gateway.mesh.agent.started[-1].run_id]


async def _ticket(gateway: Client, run: FakeRun, user: dict[str, str]) -> str:
    response = await gateway.http.post(f"/api/v1/runs/{run.id}/ticket", headers=user)
    assert response.status_code == HTTPStatus.CREATED, response.text
    return str(response.json()["ticket"])


async def _events(gateway: Client, run: FakeRun, ticket: str, **more: str) -> httpx.Response:
    """A request as from an EventSource: without any of our headers except those in `more`."""
    query = {"ticket": ticket} | {name: value for name, value in more.items() if name == "last_event_id"}
    headers = {name.replace("_", "-"): value for name, value in more.items() if name not in query}
    return await gateway.http.get(f"/api/v1/runs/{run.id}/events", params=query, headers=headers)


def _key(ticket: str) -> str:
    return f"mesh:gateway:sealed-ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"


async def test_ticket_opens_the_events_of_its_run(gateway: Client, run: FakeRun, user: dict[str, str]) -> None:
    issued = await gateway.http.post(f"/api/v1/runs/{run.id}/ticket", headers=user)

    response = await gateway.http.get(issued.json()["url"])

    assert issued.status_code == HTTPStatus.CREATED
    assert issued.headers["cache-control"] == "no-store"
    assert issued.json()["url"] == f"/api/v1/runs/{run.id}/events?ticket={issued.json()['ticket']}"
    left_s = (datetime.fromisoformat(issued.json()["expires_at"]) - datetime.now(UTC)).total_seconds()  # noqa: TID251 - as a client would compare
    assert 50 < left_s <= 60
    assert len(frames_of(response.text)) == 7


async def test_tickets_are_long_and_never_alike(gateway: Client, run: FakeRun, user: dict[str, str]) -> None:
    tickets = {await _ticket(gateway, run, user) for _ in range(20)}

    assert len(tickets) == 20
    assert {len(ticket) for ticket in tickets} == {43}


async def test_ticket_is_good_once(gateway: Client, run: FakeRun, user: dict[str, str]) -> None:
    ticket = await _ticket(gateway, run, user)

    first = await _events(gateway, run, ticket)

    assert first.status_code == HTTPStatus.OK
    require_refused(await _events(gateway, run, ticket))


async def test_of_many_uses_at_once_on_two_replicas_one_gets_in(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    async with running_gateway(mesh, valkey.url) as one, running_gateway(mesh, valkey.url) as other:
        user = one.as_user()
        await one.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=user)
        run = mesh.agent.runs[mesh.agent.started[-1].run_id]
        ticket = await _ticket(one, run, user)

        answers = await asyncio.gather(*(_events(gateway, run, ticket) for gateway in (one, other) * 5))

    assert sorted(response.status_code for response in answers) == [200] + [401] * 9


async def test_ticket_is_of_one_run(gateway: Client, run: FakeRun, user: dict[str, str]) -> None:
    ticket = await _ticket(gateway, run, user)
    await gateway.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=user)
    other = gateway.mesh.agent.runs[gateway.mesh.agent.started[-1].run_id]

    response = await _events(gateway, other, ticket)

    require_refused(response)
    require_refused(await _events(gateway, run, ticket))


async def test_ticket_opens_nothing_else(gateway: Client, run: FakeRun, user: dict[str, str]) -> None:
    ticket = await _ticket(gateway, run, user)

    response = await gateway.http.get(f"/api/v1/runs/{run.id}", params={"ticket": ticket})

    assert (response.status_code, response.json()["reason"]) == (401, "TOKEN_REQUIRED")


@pytest.mark.parametrize("ticket", ["x", "x" * 4_000, "ключ", "\ud7ff\x00", "a b", "%ff"])
async def test_what_is_no_ticket_is_refused(gateway: Client, run: FakeRun, ticket: str) -> None:
    require_refused(await _events(gateway, run, ticket))


@pytest.mark.parametrize("query", ["?ticket=%ff%fe", "?ticket=x&ticket=y"])
async def test_odd_queries_are_refused(gateway: Client, run: FakeRun, query: str) -> None:
    require_refused(await gateway.http.get(f"/api/v1/runs/{run.id}/events{query}"))


@pytest.mark.parametrize("query", ["", "?ticket="])
async def test_no_ticket_and_no_token_ask_for_a_token(gateway: Client, run: FakeRun, query: str) -> None:
    response = await gateway.http.get(f"/api/v1/runs/{run.id}/events{query}")

    assert (response.status_code, response.json()["reason"]) == (401, "TOKEN_REQUIRED")


async def test_ticket_dies_after_a_minute(gateway: Client, run: FakeRun, user: dict[str, str], redis: Redis) -> None:
    ticket = await _ticket(gateway, run, user)
    ttl_s = await redis.ttl(_key(ticket))
    # Has the same effect as the end of the minute.
    await redis.expire(_key(ticket), 0)

    response = await _events(gateway, run, ticket)

    assert 50 < ttl_s <= 60
    require_refused(response)


async def test_ticket_that_no_gateway_stored_is_refused(
    gateway: Client, run: FakeRun, user: dict[str, str], redis: Redis
) -> None:
    """Somebody who can write to Redis makes one up, in the form of release 0.1.0 and in ours."""
    ticket = await _ticket(gateway, run, user)
    ours = await redis.get(_key(ticket))
    assert isinstance(ours, bytes)
    fields = {
        "run_id": run.id,
        "user_id": str(run.user_id),
        "subject": Subject.personal(UserId(run.user_id)).as_text(),
        "session_id": str(new_id()),
        "expires_at": "2100-01-01T00:00:00+00:00",
    }
    content = orjson.dumps(fields)

    for value in (content, bytes(32) + content, ours[:40] + content):
        await redis.set(_key(ticket), value, ex=60)
        await redis.set(_key(ticket).replace("sealed-", ""), content, ex=60)
        require_refused(await _events(gateway, run, ticket))


async def test_ticket_of_another_user_is_refused_under_the_key_of_ones_own(
    gateway: Client, run: FakeRun, user: dict[str, str], redis: Redis
) -> None:
    """Somebody who can write to Redis moves a stored ticket to a secret that they know."""
    stolen, own = await _ticket(gateway, run, user), await _ticket(gateway, run, user)
    await redis.rename(_key(stolen), _key(own))

    require_refused(await _events(gateway, run, own))


async def test_redis_knows_only_the_hash(gateway: Client, run: FakeRun, user: dict[str, str], redis: Redis) -> None:
    ticket = await _ticket(gateway, run, user)

    keys = [key.decode() async for key in redis.scan_iter("*")]
    content = await redis.get(_key(ticket))

    assert _key(ticket) in keys
    assert not [key for key in keys if ticket in key]
    assert ticket not in str(content)


@pytest.mark.parametrize("of_whom", ["a stranger", "nobody"])
async def test_ticket_is_for_the_owner_alone(gateway: Client, run: FakeRun, of_whom: str) -> None:
    run_id = run.id if of_whom == "a stranger" else new_id()

    response = await gateway.http.post(f"/api/v1/runs/{run_id}/ticket", headers=gateway.as_user())

    assert (response.status_code, response.json()["reason"]) == (404, "NOT_FOUND")


async def test_token_goes_before_the_ticket(gateway: Client, run: FakeRun, user: dict[str, str]) -> None:
    ticket = await _ticket(gateway, run, user)
    stranger = await _events(gateway, run, ticket, **gateway.as_user())
    forged = await _events(gateway, run, ticket, authorization="Bearer nonsense")

    unused = await _events(gateway, run, ticket)

    assert stranger.status_code == HTTPStatus.NOT_FOUND
    assert (forged.status_code, forged.json()["reason"]) == (401, "INVALID_TOKEN")
    assert unused.status_code == HTTPStatus.OK


async def test_position_may_be_in_the_address(gateway: Client, run: FakeRun, user: dict[str, str]) -> None:
    by_ticket = await _events(gateway, run, await _ticket(gateway, run, user), last_event_id=f"{run.id}:1:5")
    by_token = await gateway.http.get(
        f"/api/v1/runs/{run.id}/events", params={"last_event_id": f"{run.id}:1:6"}, headers=user
    )
    over = await gateway.http.get(
        f"/api/v1/runs/{run.id}/events", params={"last_event_id": f"{run.id}:1:7"}, headers=user
    )

    assert [frame.id for frame in frames_of(by_ticket.text)] == [f"{run.id}:1:6", f"{run.id}:1:7"]
    assert [frame.id for frame in frames_of(by_token.text)] == [f"{run.id}:1:7"]
    assert over.status_code == HTTPStatus.NO_CONTENT


async def test_header_goes_before_the_position_in_the_address(
    gateway: Client, run: FakeRun, user: dict[str, str]
) -> None:
    response = await gateway.http.get(
        f"/api/v1/runs/{run.id}/events",
        params={"last_event_id": f"{run.id}:1:1"},
        headers={**user, "Last-Event-ID": f"{run.id}:1:6"},
    )

    assert [frame.id for frame in frames_of(response.text)] == [f"{run.id}:1:7"]


@pytest.mark.parametrize("position", ["1", "x:1:1", f"{SOME_ID}:1", f"{SOME_ID}:1:99999999999", "a" * 3_000])
async def test_malformed_position_in_the_address_is_422(
    gateway: Client, run: FakeRun, user: dict[str, str], position: str
) -> None:
    response = await gateway.http.get(f"/api/v1/runs/{run.id}/events", params={"last_event_id": position}, headers=user)

    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert [error["field"] for error in response.json()["errors"]] == ["last_event_id"]


async def test_position_of_another_run_in_the_address_is_409(
    gateway: Client, run: FakeRun, user: dict[str, str]
) -> None:
    response = await _events(gateway, run, await _ticket(gateway, run, user), last_event_id=f"{new_id()}:1:1")

    assert (response.status_code, response.json()["reason"]) == (409, "EVENT_OF_OTHER_RUN")


async def test_ticket_of_a_session_that_was_logged_out_is_refused(
    gateway: Client, run: FakeRun, user: dict[str, str]
) -> None:
    ticket = await _ticket(gateway, run, user)
    kept = await _ticket(gateway, run, gateway.as_user(run.user_id))

    await gateway.http.post("/api/v1/auth/logout", headers=user)

    require_refused(await _events(gateway, run, ticket))
    assert (await _events(gateway, run, kept)).status_code == HTTPStatus.OK


async def test_without_redis_there_are_no_tickets_and_tokens_follow_on(
    mesh: FakeMesh, gateway: Client, run: FakeRun, user: dict[str, str]
) -> None:
    dead_redis = f"redis://127.0.0.1:{free_port()}/0"
    ticket = await _ticket(gateway, run, user)

    async with running_gateway(mesh, dead_redis) as without_redis:
        gateway = without_redis
        issued = await gateway.http.post(f"/api/v1/runs/{run.id}/ticket", headers=user)
        used = await _events(gateway, run, ticket)
        followed = await gateway.http.get(f"/api/v1/runs/{run.id}/events", headers=user)

    for response in (issued, used):
        assert (response.status_code, response.json()["reason"]) == (503, "TICKETS_UNAVAILABLE")
        assert int(response.headers["retry-after"]) >= 1
    assert followed.status_code == HTTPStatus.OK


async def test_ticket_leaves_no_trace(
    mesh: FakeMesh, valkey: EmbeddedValkey, spans: RecordedSpans, capfd: pytest.CaptureFixture[str]
) -> None:
    """It appears neither in logs nor in spans, metrics or responses, whether it is valid or not."""
    port = free_port()
    with structlog.testing.capture_logs() as logs:
        async with running_gateway(mesh, valkey.url, metrics_port=port) as gateway:
            user = gateway.as_user()
            await gateway.http.post("/api/v1/chatbot/chat", json={"message": "Hi"}, headers=user)
            run = mesh.agent.runs[mesh.agent.started[-1].run_id]
            ticket = await _ticket(gateway, run, user)
            answers = [await _events(gateway, run, ticket) for _ in range(2)]
            answers.append(await gateway.http.get(f"/api/v1/runs/nonsense/events?ticket={quote(ticket)}"))
            answers.append(await gateway.http.get(f"/nothing?ticket={quote(ticket)}"))
            async with httpx.AsyncClient(trust_env=False) as http:
                metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text

    assert [response.status_code for response in answers] == [200, 401, 422, 404]
    printed = capfd.readouterr()
    seen = (
        *(str(line) for line in logs),
        *(span.to_json() for span in spans.all()),
        *(response.text + str(response.headers) for response in answers),
        metrics,
        printed.out,
        printed.err,
    )
    assert len(spans.all()) > 4
    assert [place for place in seen if ticket in place] == []
