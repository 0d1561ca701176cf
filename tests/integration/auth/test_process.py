"""`python -m mesh_auth` as a process: the commands for accounts, serve and SIGTERM."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process

import pytest
from argon2 import PasswordHasher
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mesh_auth.domain import Credentials
from mesh_auth.store.accounts import PostgresAuthDatabase
from mesh_common.database.postgres import Database
from mesh_common.grpc.client import open_channel
from mesh_common.ids import new_id
from support.auth import some_email
from support.mesh import TestMesh
from support.net import free_port

pytestmark = pytest.mark.usefixtures("auth_settings")  # it migrates the schema


@pytest.fixture
def environment(test_mesh: TestMesh) -> dict[str, str]:
    return test_mesh.environment("auth") | {
        "AUTH_SIGNING_KEY": test_mesh.secrets.signing_key,
        "AUTH_REGISTRATION_OPEN": "false",
        "AUTH_GRPC_PORT": str(free_port()),
        "PATH": os.defpath,
    }


async def start(environment: dict[str, str], *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mesh_auth", *arguments, env=environment, stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )


async def output_of(process: Process, given: str = "") -> str:
    output, _ = await process.communicate(given.encode())
    return output.decode()


async def test_create_admin_makes_an_administrator_though_registration_is_closed(
    environment: dict[str, str], auth_database: Database
) -> None:
    email, password = some_email(), f"quiet copper lanterns {new_id()}"
    process = await start(environment, "create-admin", "--email", email, "--password-stdin")

    output = await output_of(process, f"{password}\n")

    assert process.returncode == 0, output
    assert password not in output
    async with PostgresAuthDatabase(auth_database).as_worker() as store:
        found = await store.find_credentials(email)
    assert found is not None
    assert found.user.is_admin
    assert PasswordHasher().verify(found.password_hash, password)


async def test_create_admin_prints_a_made_password_once_and_refuses_a_taken_address(
    environment: dict[str, str],
) -> None:
    email = some_email()

    first = await output_of(await start(environment, "create-admin", "--email", email))
    again = await start(environment, "create-admin", "--email", email)
    second = await output_of(again)

    assert first.count("Password, shown this once: ") == 1
    assert again.returncode == 1
    assert "Traceback" not in second


async def test_user_is_created_disabled_enabled_and_gets_another_password(
    environment: dict[str, str], auth_database: Database
) -> None:
    email, password, other = some_email(), f"quiet copper lanterns {new_id()}", f"seven brass trumpets {new_id()}"

    async def run(*arguments: str, given: str = "") -> str:
        process = await start(environment, *arguments)
        output = await output_of(process, given)
        assert process.returncode == 0, output
        return output

    async def credentials() -> Credentials:
        async with PostgresAuthDatabase(auth_database).as_worker() as store:
            found = await store.find_credentials(email)
        assert found is not None
        return found

    outputs = [await run("create-user", "--email", email, "--password-stdin", given=f"{password}\n")]
    created = await credentials()
    outputs += [await run("disable-user", "--email", email.upper())]
    disabled = await credentials()
    listed = await run("list-users")
    outputs += [await run("enable-user", "--email", email)]
    outputs += [await run("set-password", "--email", email, "--password-stdin", given=f"{other}\n")]
    changed = await credentials()

    assert not created.user.is_admin
    assert PasswordHasher().verify(created.password_hash, password)
    assert disabled.user.disabled_at is not None
    [line] = [line for line in listed.splitlines() if line.endswith(f"\t{email}")]
    assert line.split("\t")[2:4] == ["user", "disabled"]
    assert changed.user.disabled_at is None
    assert PasswordHasher().verify(changed.password_hash, other)
    assert not {word for word in (password, other) if word in "".join(outputs)}


async def test_made_password_of_set_password_is_printed_once(
    environment: dict[str, str], auth_database: Database
) -> None:
    email = some_email()
    await output_of(await start(environment, "create-user", "--email", email))

    output = await output_of(await start(environment, "set-password", "--email", email))

    made = output.partition("Password, shown this once: ")[2].strip()
    async with PostgresAuthDatabase(auth_database).as_worker() as store:
        found = await store.find_credentials(email)
    assert found is not None
    assert PasswordHasher().verify(found.password_hash, made)
    assert output.count(made) == 1


@pytest.mark.parametrize("command", ["set-password", "disable-user", "enable-user"])
async def test_unknown_user_is_named_in_one_line(environment: dict[str, str], command: str) -> None:
    process = await start(environment, command, "--email", some_email())

    output = await output_of(process)

    assert (process.returncode, output) == (1, "There is no such user.\n")


async def test_faults_of_settings_are_named_all_at_once(environment: dict[str, str]) -> None:
    del environment["AUTH_SIGNING_KEY"]
    process = await start(environment | {"AUTH_HASH_WORKERS": "0"}, "serve")

    output = await output_of(process)

    assert process.returncode == 2
    assert "AUTH_SIGNING_KEY" in output
    assert "AUTH_HASH_WORKERS" in output


async def test_service_becomes_ready_and_ends_with_0_on_sigterm(environment: dict[str, str]) -> None:
    process = await start(environment, "serve")
    async with asyncio.timeout(20), open_channel(f"127.0.0.1:{environment['AUTH_GRPC_PORT']}") as channel:
        request = health_pb2.HealthCheckRequest(service="readiness")
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, wait_for_ready=True)

    process.send_signal(signal.SIGTERM)
    output = await output_of(process)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert process.returncode == 0, output
