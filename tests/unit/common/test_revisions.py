"""The revision that a service needs, determined without alembic."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from mesh_common.database.revisions import newest_revision


@pytest.mark.parametrize("service", ["auth", "agent", "memory", "eval"])
def test_it_is_the_one_that_alembic_finds(service: str) -> None:
    spec = find_spec(f"mesh_{service}")
    assert spec
    assert spec.origin
    migrations = Path(spec.origin).parent / "migrations"

    assert newest_revision(migrations) == ScriptDirectory(migrations).get_current_head()


def test_a_service_without_migrations_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()

    with pytest.raises(ValueError, match="no migrations"):
        newest_revision(tmp_path)
