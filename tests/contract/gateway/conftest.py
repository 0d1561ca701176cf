"""A gateway in front of four fake services, whose agent may be of another release."""

from collections.abc import AsyncIterator

import pytest
from mesh_admin.secrets import make_secrets
from mesh_dev.valkey import EmbeddedValkey
from support.gateway import Client, FakeMesh, running_gateway


@pytest.fixture
async def gateway(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedValkey) -> AsyncIterator[Client]:
    secrets = make_secrets()
    jwks_file = tmp_path_factory.mktemp("gateway-keys") / "service-jwks.json"
    jwks_file.write_text(secrets.service_jwks())
    mesh = FakeMesh(secrets, jwks_file)
    for service in ("auth", "agent", "memory", "eval"):
        await mesh.start(service)
    async with running_gateway(mesh, valkey.url) as client:
        yield client
    for service in list(mesh.servers):
        await mesh.stop(service)
