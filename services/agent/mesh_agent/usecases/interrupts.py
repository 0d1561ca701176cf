"""Lists what waits for a decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mesh_common.cursor import decode_time_cursor, encode_time_cursor
from mesh_common.errors import PermissionDenied
from mesh_common.subject import Subject

from mesh_agent.domain.interrupts import Interrupt
from mesh_agent.store import Database, interrupts
from mesh_agent.usecases.pages import Page, first_page, text_bytes


@dataclass(frozen=True, slots=True)
class Interrupts:
    database: Database

    async def list(
        self, subject: Subject, *, is_of_organisation: bool, limit: int, cursor: str | None
    ) -> Page[Interrupt]:
        """Oldest first. Raises PermissionDenied for those of the organisation without the scope."""
        after = decode_time_cursor(cursor) if cursor else None
        if is_of_organisation:
            found = await self._of_organisation(subject, limit, after)
        else:
            async with self.database.as_subject(subject) as connection:
                found = await interrupts.list_waiting(
                    connection, user_id=subject.user_id, organisation_id=None, limit=limit + 1, after=after
                )
        page, more = first_page(found, limit, _bytes)
        return Page(page, encode_time_cursor(page[-1].created_at, UUID(page[-1].id)) if more else None)

    async def _of_organisation(
        self, subject: Subject, limit: int, after: tuple[datetime, UUID] | None
    ) -> Sequence[Interrupt]:
        if not subject.may_approve:
            raise PermissionDenied("Your account may not see what waits in your organisation.")
        async with self.database.as_worker() as connection:
            return await interrupts.list_waiting(
                connection, user_id=None, organisation_id=subject.organisation_id, limit=limit + 1, after=after
            )


def _bytes(one: Interrupt) -> int:
    return text_bytes(one.call_id, one.tool, one.arguments_json, one.question, one.answer_schema_json)
