"""A service that starts before its schema exists."""

import asyncio

from fakes.auth.hasher import CountingHasher
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mesh_admin.bootstrap_db import BootstrapSettings, bootstrap
from mesh_auth.bootstrap import MIGRATIONS
from mesh_auth.settings import AuthSettings
from mesh_common.database.migrate import migrate
from mesh_common.grpc.client import open_channel
from mesh_dev.postgres import EmbeddedPostgres
from pydantic import SecretStr
from support.auth import opened, some_email
from support.mesh import TestMesh


async def test_service_waits_unready_for_its_schema_and_then_works_without_a_restart(
    test_mesh: TestMesh, postgres: EmbeddedPostgres, auth_settings: AuthSettings
) -> None:
    admin_url = await postgres.create_database("unmigrated")
    passwords = {role: SecretStr(password) for role, password in test_mesh.secrets.passwords.items()}
    await bootstrap(BootstrapSettings(admin_database_url=SecretStr(admin_url), database_passwords=passwords))
    settings = auth_settings.model_copy(
        update={"database_url": SecretStr(test_mesh.database_url("auth").replace("/mesh", "/unmigrated"))}
    )
    owner_url = test_mesh.database_url("auth", "owner").replace("/mesh", "/unmigrated")

    async with opened(test_mesh, settings, hasher=CountingHasher()) as auth:
        target = f"127.0.0.1:{auth.settings.grpc_port}"
        async with asyncio.timeout(20), open_channel(target) as channel:
            request = health_pb2.HealthCheckRequest(service="readiness")
            watched = health_pb2_grpc.HealthStub(channel).Watch(request)
            before = (await watched.read()).status
            await asyncio.to_thread(migrate, owner_url, schema="auth", migrations=MIGRATIONS)
            after = (await watched.read()).status
            watched.cancel()
        user = await auth.register(some_email())

    assert before == health_pb2.HealthCheckResponse.NOT_SERVING
    assert after == health_pb2.HealthCheckResponse.SERVING
    assert user.id
