"""The revision of its schema that a service needs, from the file names of its migrations.

Separate from `migrate`, because importing alembic takes 6 % of a service's start and serving does not need it.
"""

from pathlib import Path


def newest_revision(migrations: Path) -> str:
    """The oldest revision that the code works with: `0002` of `versions/0002_<what_it_does>.py`.

    Raises:
        ValueError: there are no migrations.
    """
    names = [path.stem for path in (migrations / "versions").glob("[0-9]*_*.py")]
    if not names:
        raise ValueError("no migrations found")
    return max(names).partition("_")[0]
