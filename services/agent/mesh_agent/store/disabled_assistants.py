"""SQL about the kill switch of assistants."""

from dataclasses import dataclass
from uuid import UUID

from mesh_common.database.statements import Statement
from mesh_common.ids import UserId

from mesh_agent.store import Connection


async def disable(connection: Connection, assistant_id: UUID, *, is_disabled: bool) -> None:
    await _DISABLE.count(connection, {"id": assistant_id, "is_disabled": is_disabled})


_DISABLE = Statement(
    "agent.disable_assistant",
    "UPDATE agent.assistants SET is_disabled = :is_disabled, updated_at = clock_timestamp() WHERE id = :id",
)


async def switch(connection: Connection, name: str, *, is_disabled: bool, by: UserId) -> None:
    """Disables an assistant of the files or of the settings, or enables it. Needs the worker role."""
    await _SWITCH.count(connection, {"name": name, "is_disabled": is_disabled, "by": by})


_SWITCH = Statement(
    "agent.switch_assistant",
    """
    INSERT INTO agent.assistant_switches (name, is_disabled, changed_by) VALUES (:name, :is_disabled, :by)
    ON CONFLICT (name) DO UPDATE SET
        is_disabled = excluded.is_disabled, changed_by = excluded.changed_by, changed_at = clock_timestamp()
""",
)


@dataclass(frozen=True, slots=True)
class Disabled:
    """`names` are of files and of the settings, `ids` of the API."""

    names: frozenset[str] = frozenset()
    ids: frozenset[UUID] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.names or self.ids)


async def disabled(connection: Connection) -> Disabled:
    """Everything that is disabled. Needs the worker role."""
    rows = await _DISABLED.rows(connection, {})
    return Disabled(
        frozenset(row["name"] for row in rows if row["name"]), frozenset(row["id"] for row in rows if row["id"])
    )


_DISABLED = Statement(
    "agent.disabled_assistants",
    """
    SELECT name, NULL::uuid AS id FROM agent.assistant_switches WHERE is_disabled
    UNION ALL SELECT NULL, id FROM agent.assistants WHERE is_disabled
""",
)


async def cancel_runs(connection: Connection, found: Disabled) -> int:
    """Marks the unended runs of disabled assistants for cancellation: returns how many. Needs the worker role."""
    return await _CANCEL.count(connection, {"names": list(found.names), "ids": list(found.ids)})


# Runs of the release before name no assistant: they are of the default one.
_CANCEL = Statement(
    "agent.cancel_runs_of_assistants",
    """
    UPDATE agent.runs SET is_cancel_requested = true
    WHERE status IN ('pending', 'running') AND NOT is_cancel_requested
      AND (assistant_id = ANY(:ids) OR assistant_id IS NULL AND coalesce(assistant, 'default') = ANY(:names))
""",
)
