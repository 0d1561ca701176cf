"""A service of this release on the schema of an older one: it waits, says why in one line, and then works."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import orjson
import pytest
from mesh_common.grpc.edges import ServiceName
from mesh_dev.postgres import EmbeddedPostgres
from support.mesh import TestMesh
from support.net import free_port
from support.release_0_1_0 import OldDatabase
from support.scratch import bootstrapped

_LIMIT_S: Final = 40
_SERVICES: Final[tuple[ServiceName, ...]] = ("auth", "agent", "memory", "eval")
_READY: Final = '"ready":true'
_NOWHERE: Final = "http://127.0.0.1:9/v1"
_MODEL: Final = {"name": "m", "provider_model": "m", "context_tokens": 8_000}


def own_variables(service: ServiceName, mesh: TestMesh) -> Mapping[str, str]:
    match service:
        case "auth":
            return {"AUTH_SIGNING_KEY": mesh.secrets.signing_key}
        case "agent":
            return {"AGENT_MODELS": orjson.dumps([_MODEL]).decode(), "AGENT_OPENAI_BASE_URL": _NOWHERE}
        case "memory":
            return {"MEMORY_OPENAI_BASE_URL": _NOWHERE, "MEMORY_EMBEDDING_BASE_URL": _NOWHERE}
        case _:
            return {"EVAL_OPENAI_BASE_URL": _NOWHERE, "EVAL_JUDGE_MODEL": "m"}


@pytest.fixture(params=_SERVICES)
async def old(
    postgres: EmbeddedPostgres, test_mesh: TestMesh, request: pytest.FixtureRequest, tmp_path: Path
) -> OldDatabase:
    service = request.param
    name = f"older_{service}"
    await bootstrapped(postgres, test_mesh.secrets, test_mesh.jwks_file, name)
    old = OldDatabase(test_mesh, name, service)
    await asyncio.to_thread(old.migrate_to_0_1_0, tmp_path / "old")
    return old


@asynccontextmanager
async def serving(old: OldDatabase, service: ServiceName) -> AsyncIterator[Process]:
    prefix = service.upper()
    environment = {
        **old.mesh.environment(service),
        **own_variables(service, old.mesh),
        f"{prefix}_DATABASE_URL": old.url(),
        f"{prefix}_GRPC_PORT": str(free_port()),
        f"{prefix}_DRAIN_S": "2",
        "PATH": os.defpath,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"mesh_{service}", "serve", env=environment, stdout=PIPE, stderr=STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def read_until(process: Process, text: str) -> list[str]:
    """The lines up to the one that contains `text`; all of them if the process ends before."""
    assert process.stdout
    lines: list[str] = []
    async with asyncio.timeout(_LIMIT_S):
        while line := (await process.stdout.readline()).decode():
            lines.append(line)
            if text in line:
                break
    return lines


async def test_a_service_waits_for_the_schema_it_needs(old: OldDatabase) -> None:
    service: ServiceName = next(name for name in _SERVICES if name == old.schema)
    async with serving(old, service) as process:
        before = await read_until(process, "the schema is older than the code")
        # Meanwhile every background task of the service works on the old schema.
        await asyncio.to_thread(old.migrate)
        after = await read_until(process, _READY)
        process.send_signal(signal.SIGTERM)
        rest = await read_until(process, "never said")
        code = await process.wait()

    said = "".join((*before, *after, *rest))
    assert code == 0, said
    assert _READY in after[-1], said
    assert "Traceback" not in said
    assert said.count("the schema is older than the code") == 1
