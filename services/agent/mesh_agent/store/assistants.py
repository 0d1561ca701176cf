"""SQL of the API's assistants, and of what is disabled.

A member of an organisation sees their own assistants and those that others share with it; their own hides a shared one
of the same name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from asyncpg import Record, UniqueViolationError
from mesh_common.database.statements import Statement
from mesh_common.ids import UserId, new_id
from mesh_common.subject import Subject

from mesh_agent.assistants.model import StoredAssistant, Visibility
from mesh_agent.store import Connection

_COLUMNS: Final = """
    a.id, a.user_id, a.name, a.visibility, a.current_version, a.is_disabled, v.version, v.spec_json, v.created_at,
    v.created_by
"""
_VISIBLE: Final = """
    coalesce(a.org_id, a.user_id) = :organisation_id AND (a.user_id = :user_id OR a.visibility = 'organisation')
"""


@dataclass(frozen=True, slots=True)
class NewAssistant:
    name: str
    visibility: Visibility
    spec_json: str
    idempotency_key: str | None
    request_hash: bytes


class NameTakenError(Exception):
    """The user, or somebody who shares with the organisation, has an assistant of this name."""


async def insert(connection: Connection, subject: Subject, new: NewAssistant) -> None:
    """Stores the first version. Raises NameTakenError, after which the transaction is over."""
    parameters = {
        "id": new_id(),
        "user_id": subject.user_id,
        "name": new.name,
        "visibility": new.visibility.value,
        "spec_json": new.spec_json,
        "idempotency_key": new.idempotency_key,
        "request_hash": new.request_hash,
    }
    try:
        await _INSERT.count(connection, parameters)
    except UniqueViolationError as error:
        raise NameTakenError from error


_INSERT = Statement(
    "agent.insert_assistant",
    """
    WITH inserted AS (
        INSERT INTO agent.assistants
            (id, user_id, name, visibility, current_version, last_version, idempotency_key, request_hash)
        VALUES (:id, :user_id, :name, :visibility, 1, 1, :idempotency_key, :request_hash)
        RETURNING id, user_id
    )
    INSERT INTO agent.assistant_versions (assistant_id, version, user_id, spec_json, created_by)
    SELECT id, 1, user_id, :spec_json, user_id FROM inserted
""",
)


async def by_key(connection: Connection, user_id: UserId, key: str) -> tuple[str, bytes] | None:
    """The name of the assistant that a request with this key created, and the request's hash."""
    row = await _BY_KEY.row(connection, {"user_id": user_id, "key": key})
    return (row["name"], row["request_hash"]) if row else None


_BY_KEY = Statement(
    "agent.assistant_by_key",
    "SELECT name, request_hash FROM agent.assistants WHERE user_id = :user_id AND idempotency_key = :key",
)


async def count_own(connection: Connection, user_id: UserId) -> int:
    (row,) = await _COUNT.rows(connection, {"user_id": user_id})
    return int(row["assistants"])


_COUNT = Statement(
    "agent.count_assistants", "SELECT count(*) AS assistants FROM agent.assistants WHERE user_id = :user_id"
)


async def find(
    connection: Connection, subject: Subject, name: str, version: int | None = None
) -> StoredAssistant | None:
    """The version, or the current one."""
    row = await _FIND.row(connection, {**_of(subject), "name": name, "version": version})
    return _stored(row) if row else None


_ONE: Final = """
    SELECT {columns} FROM agent.assistants a JOIN agent.assistant_versions v
      ON v.assistant_id = a.id AND v.version = coalesce(:version::integer, a.current_version)
    WHERE a.name = :name AND {visible}
    ORDER BY a.user_id = :user_id DESC LIMIT 1
"""
_FIND = Statement("agent.find_assistant", _ONE.format(columns=_COLUMNS, visible=_VISIBLE))


async def list_visible(
    connection: Connection, subject: Subject, *, limit: int, after: str
) -> Sequence[StoredAssistant]:
    """The current versions, by name."""
    rows = await _LIST.rows(connection, {**_of(subject), "limit": limit, "after": after})
    return list(map(_stored, rows))


_PAGE: Final = """
    SELECT DISTINCT ON (a.name) {columns} FROM agent.assistants a JOIN agent.assistant_versions v
      ON v.assistant_id = a.id AND v.version = a.current_version
    WHERE a.name > :after AND {visible}
    ORDER BY a.name, a.user_id = :user_id DESC LIMIT :limit
"""
_LIST = Statement("agent.list_assistants", _PAGE.format(columns=_COLUMNS, visible=_VISIBLE))


async def list_versions(
    connection: Connection, assistant_id: UUID, *, limit: int, before: int | None
) -> Sequence[StoredAssistant]:
    """Newest first."""
    rows = await _VERSIONS.rows(connection, {"id": assistant_id, "limit": limit, "before": before})
    return list(map(_stored, rows))


_ALL_OF_ONE: Final = """
    SELECT {columns} FROM agent.assistants a JOIN agent.assistant_versions v ON v.assistant_id = a.id
    WHERE a.id = :id AND (:before::integer IS NULL OR v.version < :before)
    ORDER BY v.version DESC LIMIT :limit
"""
_VERSIONS = Statement("agent.list_assistant_versions", _ALL_OF_ONE.format(columns=_COLUMNS))


async def add_version(
    connection: Connection,
    assistant_id: UUID,
    spec_json: str,
    *,
    by: UserId,
    expected: int | None,
    visibility: Visibility | None,
) -> bool:
    """Makes a new version the current one. False if another than `expected` is current by now.

    Raises NameTakenError if the new visibility makes its name one that somebody else shares.
    """
    parameters = {
        "id": assistant_id,
        "spec_json": spec_json,
        "created_by": by,
        "expected": expected,
        "visibility": visibility and visibility.value,
    }
    try:
        return await _ADD_VERSION.count(connection, parameters) == 1
    except UniqueViolationError as error:
        raise NameTakenError from error


_ADD_VERSION = Statement(
    "agent.add_assistant_version",
    """
    WITH changed AS (
        UPDATE agent.assistants SET
            last_version = last_version + 1, current_version = last_version + 1,
            visibility = coalesce(:visibility, visibility), updated_at = clock_timestamp()
        WHERE id = :id AND (:expected::integer IS NULL OR current_version = :expected)
        RETURNING id, org_id, user_id, current_version
    )
    INSERT INTO agent.assistant_versions (assistant_id, version, org_id, user_id, spec_json, created_by)
    SELECT id, current_version, org_id, user_id, :spec_json, :created_by FROM changed
""",
)


async def set_current(connection: Connection, assistant_id: UUID, version: int, *, expected: int | None) -> bool:
    """False if another than `expected` is current by now. The version must exist."""
    return await _SET_CURRENT.count(connection, {"id": assistant_id, "version": version, "expected": expected}) == 1


_SET_CURRENT = Statement(
    "agent.set_current_assistant_version",
    """
    UPDATE agent.assistants SET current_version = :version, updated_at = clock_timestamp()
    WHERE id = :id AND (:expected::integer IS NULL OR current_version = :expected)
""",
)


async def delete(connection: Connection, assistant_id: UUID, *, expected: int | None) -> bool:
    """Deletes it with its versions. False if another than `expected` is current by now. Runs keep their plans."""
    return await _DELETE.count(connection, {"id": assistant_id, "expected": expected}) == 1


_DELETE = Statement(
    "agent.delete_assistant",
    "DELETE FROM agent.assistants WHERE id = :id AND (:expected::integer IS NULL OR current_version = :expected)",
)


def _of(subject: Subject) -> dict[str, Any]:
    return {"organisation_id": subject.organisation_id, "user_id": subject.user_id}


def version_number(version: str) -> int | None:
    """The number of a version of the API; None for a text that is none."""
    is_number = version.isascii() and version.isdecimal() and len(version) <= _MAX_DIGITS
    return int(version) if is_number else None


_MAX_DIGITS: Final = 9


def _stored(row: Record) -> StoredAssistant:
    return StoredAssistant(
        row["id"],
        row["user_id"],
        row["name"],
        Visibility(row["visibility"]),
        row["current_version"],
        row["is_disabled"],
        row["version"],
        row["spec_json"],
        row["created_at"],
        row["created_by"],
    )
