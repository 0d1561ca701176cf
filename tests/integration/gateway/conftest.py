"""One fake mesh and one gateway per session. Tests that need other settings open a gateway of their own."""

from collections.abc import AsyncIterator

import pytest
from mesh_admin.secrets import make_secrets
from mesh_common.redis import open_redis
from mesh_dev.valkey import EmbeddedValkey
from pydantic import SecretStr
from redis.asyncio import Redis
from support.gateway import Client, FakeMesh, running_gateway


@pytest.fixture(scope="session")
async def session_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FakeMesh]:
    secrets = make_secrets()
    jwks_file = tmp_path_factory.mktemp("gateway-keys") / "service-jwks.json"
    jwks_file.write_text(secrets.service_jwks())
    mesh = FakeMesh(secrets, jwks_file)
    for service in ("auth", "agent", "memory", "eval"):
        await mesh.start(service)
    yield mesh
    for service in list(mesh.servers):
        await mesh.stop(service)


@pytest.fixture
def mesh(session_mesh: FakeMesh) -> FakeMesh:
    session_mesh.agent.reset()
    return session_mesh


@pytest.fixture(scope="session")
async def session_gateway(session_mesh: FakeMesh, valkey: EmbeddedValkey) -> AsyncIterator[Client]:
    async with running_gateway(session_mesh, valkey.url) as client:
        yield client


@pytest.fixture
def gateway(session_gateway: Client, mesh: FakeMesh) -> Client:
    assert session_gateway.mesh is mesh
    return session_gateway


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    """What the gateways of this session use."""
    async with open_redis(SecretStr(valkey.url)) as client:
        yield client
