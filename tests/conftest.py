"""The real parts that integration tests share: one PostgreSQL and one Valkey a session."""

import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from mesh_dev.postgres import EmbeddedPostgres
from mesh_dev.valkey import EmbeddedValkey
from support.mesh import TestMesh
from support.net import free_port
from support.template import UNSAFE, copied, ready_template, secrets_in
from support.workers import MeshesApart
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("agent mesh")
    group.addoption("--nightly", action="store_true", help="run the tests marked nightly, and no others")
    group.addoption("--seed", type=int, default=1, help="the first seed of tests that draw what they do")


def pytest_configure() -> None:
    """Tracebacks in logs are plain. Those with the locals of every frame took so long that PostgreSQL gave up the
    transactions of the tests in the same process."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    before = [one for one in structlog.get_config()["processors"] if not isinstance(one, structlog.dev.ConsoleRenderer)]
    structlog.configure(processors=[*before, plain])


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('seed')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks each test by its folder, so that no file has to say what it is, and leaves nightly ones to the night."""
    wants_nightly = config.getoption("nightly")
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        # The folder right under tests/: tests/unit/chaos holds unit tests.
        item.add_marker(item.path.relative_to(Path(__file__).parent).parts[0])
        is_nightly = item.get_closest_marker("nightly") is not None
        (kept if is_nightly == wants_nightly else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return MeshesApart(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """Modules and tests stay for the whole run: the collector need not look at a million objects time and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The first seed of what is drawn: `--seed`, which is printed at the top."""
    return int(pytestconfig.getoption("seed"))


@pytest.fixture(scope="session")
async def mesh_template(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The data folder of a mesh that never ran, with every schema migrated: one for all workers, to be copied."""
    own = tmp_path_factory.getbasetemp()
    return await ready_template(own if worker_id == "master" else own.parent)


@pytest.fixture(scope="session")
async def postgres(mesh_template: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A real PostgreSQL with a migrated database `mesh`; tests keep apart by their users, as the product does."""
    folder = await copied(mesh_template, tmp_path_factory.mktemp("postgres"))
    server = EmbeddedPostgres(folder, free_port(), settings=UNSAFE)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"), free_port())
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
def test_mesh(postgres: EmbeddedPostgres, mesh_template: Path, tmp_path_factory: pytest.TempPathFactory) -> TestMesh:
    """The secrets of the mesh whose database `postgres` has."""
    secret_set = secrets_in(mesh_template)
    jwks_file = tmp_path_factory.mktemp("keys") / "service-jwks.json"
    jwks_file.write_text(secret_set.service_jwks())
    database = postgres.url_of("mesh").rpartition("@")[2].partition("/")[0]
    return TestMesh(secret_set, jwks_file, database)
