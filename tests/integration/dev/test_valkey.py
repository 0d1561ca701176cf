from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_dev.valkey import EmbeddedValkey
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from support.net import free_port


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path, free_port())
    await server.start()
    yield server
    await server.stop()


async def test_the_url_gives_a_working_connection(valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(valkey.url, decode_responses=True) as client:
        await client.set("limit", "20")

        assert await client.get("limit") == "20"
        assert await client.config_get("save") == {"save": ""}


async def test_the_password_is_required_and_not_in_the_list_of_processes(valkey: EmbeddedValkey) -> None:
    password = valkey.url.removeprefix("redis://:").split("@")[0]
    arguments = Path(f"/proc/{valkey.child.pid}/cmdline").read_text()

    async with Redis.from_url(valkey.url.replace(f":{password}@", "")) as client:
        with pytest.raises(AuthenticationError):
            await client.ping()

    assert password not in arguments


async def test_nothing_is_kept_over_a_restart(valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(valkey.url) as client:
        await client.set("limit", "20")

    await valkey.restart()

    async with Redis.from_url(valkey.url) as client:
        assert await client.dbsize() == 0


async def test_killed_server_is_down_and_starts_again(valkey: EmbeddedValkey) -> None:
    await valkey.kill()

    async with Redis.from_url(valkey.url) as client:
        with pytest.raises(RedisConnectionError):
            await client.ping()
        await valkey.start()

        assert await client.ping()
