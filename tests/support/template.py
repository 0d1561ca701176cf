"""A mesh's data folder with every schema migrated, created once per test run and copied for each server and stack.

Creating one takes initdb, the bootstrap and four migrations: 8 s of CPU if a stack does it, in separate processes.
"""

import asyncio
import fcntl
import importlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from mesh_admin.bootstrap_db import SCHEMAS, BootstrapSettings, bootstrap
from mesh_admin.secrets import SecretSet, from_json, make_secrets, to_json
from mesh_dev.postgres import EmbeddedPostgres
from mesh_dev.secret_file import write_private
from mesh_dev.stack import DATABASE
from pydantic import SecretStr

from support.mesh import TestMesh
from support.net import free_port

# No test data must survive a crash. Full pages after a checkpoint would make WAL counts depend on the time.
UNSAFE: Final = {"fsync": "off", "full_page_writes": "off"}


async def ready_template(shared: Path) -> Path:
    """The template in the folder `shared`, created by the first worker that needs it."""
    return await asyncio.to_thread(_make_once, shared)


async def copied(template: Path, data_dir: Path) -> Path:
    """Creates the data folder `data_dir` as a stack leaves it after a clean stop.

    Its keys are new, so that no mesh accepts the tokens of another; the database passwords are the template's.
    """
    await asyncio.to_thread(shutil.copytree, template, data_dir, dirs_exist_ok=True)
    secrets = replace(make_secrets(), passwords=secrets_in(template).passwords)
    write_private(data_dir / "secrets.json", to_json(secrets))
    return data_dir


def secrets_in(data_dir: Path) -> SecretSet:
    return from_json((data_dir / "secrets.json").read_text())


def _make_once(shared: Path) -> Path:
    template = shared / "mesh-template"
    with (shared / "mesh-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            unfinished = shared / "mesh-template.new"
            asyncio.run(_make(unfinished))
            unfinished.rename(template)
    return template


async def _make(data_dir: Path) -> None:
    secrets = make_secrets()
    server = EmbeddedPostgres(data_dir, free_port(), settings=UNSAFE)
    await server.start()
    try:
        admin_url = await server.create_database(DATABASE)
        passwords = {role: SecretStr(password) for role, password in secrets.passwords.items()}
        await bootstrap(BootstrapSettings(admin_database_url=SecretStr(admin_url), database_passwords=passwords))
        address = admin_url.rpartition("@")[2].partition("/")[0]
        mesh = TestMesh(secrets, data_dir / "unused", address)
        for service in SCHEMAS:
            # Imported here, because it takes seconds and only one worker needs it.
            migrations: Path = importlib.import_module(f"mesh_{service}.bootstrap").MIGRATIONS
            await asyncio.to_thread(mesh.migrate, service, migrations)
    finally:
        await server.stop()
    shutil.rmtree(data_dir / "log")
    write_private(data_dir / "secrets.json", to_json(secrets))
