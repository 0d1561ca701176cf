"""Loads the images into the nodes, and builds the next version, which has one more migration."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mesh_common.grpc.edges import SERVICES

from cluster.processes import run, run_command
from cluster.settings import ClusterSettings
from cluster.surroundings import STAND_INS

_MIGRATION: Final = '''"""A column that the next version will use; the running one does not know it."""

from alembic import op

revision = "{number}"
down_revision = "{before}"


def upgrade() -> None:
    op.execute("{statement}")
'''


async def load_images(settings: ClusterSettings, tag: str, *, with_stand_ins: bool = True) -> None:
    names = [f"{settings.image_registry}/mesh-{service}:{tag}" for service in SERVICES]
    if with_stand_ins:
        names += [f"{settings.image_registry}/{name}:{settings.image_tag}" for name in STAND_INS]
    if settings.image_load:
        await run_command(settings.image_load, *names, timeout_s=300)


async def build_next(settings: ClusterSettings, tag: str, statement: str, *, after: str | None = None) -> None:
    """Builds all five images as `tag`: those of `after`, by default the current ones, with one more agent migration.

    The migration runs `statement`.
    """
    engine, registry = settings.container_engine, settings.image_registry
    for service in SERVICES:
        today = f"{registry}/mesh-{service}:{after or settings.image_tag}"
        if service == "agent":
            await _with_migration(engine, today, f"{registry}/mesh-agent:{tag}", statement)
        else:
            await run(engine, "tag", today, f"{registry}/mesh-{service}:{tag}")
    await load_images(settings, tag, with_stand_ins=False)


async def _with_migration(engine: str, today: str, name: str, statement: str) -> None:
    find = "import mesh_agent, pathlib; print(pathlib.Path(mesh_agent.__file__).parent / 'migrations/versions')"
    folder = Path((await run(engine, "run", "--rm", "--network=none", today, "-c", find)).strip())
    listing = f"import os; print(max(n[:4] for n in os.listdir('{folder}') if n[:4].isdigit()))"
    before = (await run(engine, "run", "--rm", "--network=none", today, "-c", listing)).strip()
    number = f"{int(before) + 1:04d}"
    with TemporaryDirectory() as context:
        text = _MIGRATION.format(number=number, before=before, statement=statement)
        migration = Path(context, f"{number}_next.py")
        migration.write_text(text)
        migration.chmod(0o644)
        Path(context, "Dockerfile").write_text(f"FROM {today}\nCOPY {migration.name} {folder}/{migration.name}\n")
        pull = ("--pull=never", "--format=docker") if engine == "podman" else ()
        await run(engine, "build", "--quiet", *pull, "--tag", name, context, timeout_s=120)
