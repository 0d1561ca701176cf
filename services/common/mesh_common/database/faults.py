"""What PostgreSQL or the way to it said, as one line for whoever runs a command. No line holds a password.

PostgreSQL's message alone is told: its details quote rows, SQLAlchemy's texts quote statements.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mesh_common.errors import PreconditionFailed, Unavailable


@contextmanager
def told_in_one_line(url: str, title: Callable[[], str]) -> Iterator[None]:
    """Faults of the database come out as MeshErrors that begin with what was being done."""
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(f"{title()} failed: no answer in time from the database at {_address(url)}.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unavailable(f"{title()} failed: the database at {_address(url)} cannot be reached ({reason}).") from error
    except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise PreconditionFailed(f"{title()} failed: {_message(error)} (database at {_address(url)}).") from error


def _message(error: Exception) -> str:
    original = (error.orig and error.orig.__cause__) or error if isinstance(error, DBAPIError) else error
    text = str(original.args[0]) if original.args else type(original).__name__
    return text.splitlines()[0].rstrip(".")


def _address(url: str) -> str:
    # The settings have seen that it is a URL.
    return urlsplit(url).netloc.rpartition("@")[2] or "its socket"
