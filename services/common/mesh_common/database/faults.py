"""Errors of PostgreSQL and of the connection to it, as one line for the operator. No line contains a password.

Only PostgreSQL's primary message is reported: its details quote rows, and SQLAlchemy's texts quote statements.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mesh_common.errors import PreconditionFailed, Unavailable


@contextmanager
def reported_in_one_line(url: str, title: Callable[[], str]) -> Iterator[None]:
    """Raises database errors as MeshErrors whose message starts with `title()`."""
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
    # The settings have checked that it is a URL.
    return urlsplit(url).netloc.rpartition("@")[2] or "its socket"
