"""Tickets that nobody issued are cheap to refuse, and limited."""

import asyncio

import httpx
import pytest
from mesh_common.ids import new_id
from mesh_dev.valkey import EmbeddedValkey
from mesh_gateway.metrics import LIMITS_LOCAL
from redis.asyncio import Redis
from support.gateway import FakeMesh, running_gateway
from support.gateway_tickets import require_refused
from support.net import free_port


async def _commands(redis: Redis) -> int:
    """How many commands the server has served."""
    return int((await redis.info("stats"))["total_commands_processed"])


@pytest.mark.parametrize("length", [3, 42, 44, 500])
async def test_many_made_up_tickets_are_refused_cheaply(
    mesh: FakeMesh, valkey: EmbeddedValkey, redis: Redis, length: int
) -> None:
    """They emptied the pool of connections to Redis, and limits stayed local from then on."""
    port = free_port()
    made_up = [f"{number:0{length}}" for number in range(250)]
    # The tests share one process: a gateway of another test may have ended without Redis.
    LIMITS_LOCAL.set(0)
    async with running_gateway(mesh, valkey.url, metrics_port=port) as gateway:
        before = await _commands(redis)
        path = f"/api/v1/runs/{new_id()}/events"
        answers = await asyncio.gather(*(gateway.http.get(path, params={"ticket": ticket}) for ticket in made_up))
        asked = await _commands(redis) - before
        async with httpx.AsyncClient(trust_env=False) as http:
            metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text

    for response in answers:
        require_refused(response)
    assert asked < 50
    assert "mesh_gateway_rate_limits_local 0.0" in metrics


async def test_made_up_tickets_of_the_right_form_do_not_make_limits_local(
    mesh: FakeMesh, valkey: EmbeddedValkey
) -> None:
    port = free_port()
    LIMITS_LOCAL.set(0)
    async with running_gateway(mesh, valkey.url, metrics_port=port) as gateway:
        path = f"/api/v1/runs/{new_id()}/events"
        answers = await asyncio.gather(
            *(gateway.http.get(path, params={"ticket": f"{number:043}"}) for number in range(250))
        )
        async with httpx.AsyncClient(trust_env=False) as http:
            metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text

    for response in answers:
        require_refused(response)
    assert "mesh_gateway_rate_limits_local 0.0" in metrics


async def test_tickets_are_limited_per_address(mesh: FakeMesh, valkey: EmbeddedValkey) -> None:
    settings = {"anonymous_limit_per_minute": 2, "trusted_proxy_hops": 1}
    here, there = (f"2001:db8:{new_id().int % 65_000:x}:{number}::7" for number in (3, 4))
    path = f"/api/v1/runs/{new_id()}/events?ticket={'A' * 43}"

    async with running_gateway(mesh, valkey.url, **settings) as gateway:
        answers = [
            (await gateway.http.get(path, headers={"X-Forwarded-For": address})).status_code
            for address in (here, here, here, there)
        ]

    assert answers == [401, 401, 429, 401]
