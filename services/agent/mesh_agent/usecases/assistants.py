"""Assistants by the API: made, read, changed, disabled. Files win over them, and cannot be changed here."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from mesh_common.assistant import NAME_PATTERN, NamedAssistantSpec, parsed
from mesh_common.cursor import (
    decode_name_cursor,
    decode_position_cursor,
    encode_name_cursor,
    encode_position_cursor,
)
from mesh_common.errors import (
    AlreadyExists,
    Conflict,
    IdempotencyKeyReused,
    InvalidInput,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
)
from mesh_common.subject import Subject

from mesh_agent.assistants.model import Assistant, StoredAssistant, Visibility
from mesh_agent.known_assistants import KnownAssistants
from mesh_agent.store import Connection, Database, assistants, disabled_assistants
from mesh_agent.store.assistants import NameTakenError, NewAssistant, version_number
from mesh_agent.usecases.pages import Page, first_page, text_bytes
from mesh_agent.usecases.threads import request_hash

# Waiting does not free an assistant, but the error requires a value.
_FULL_RETRY_AFTER_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Assistants:
    database: Database
    known: KnownAssistants
    max_per_user: int

    async def create(
        self, subject: Subject, spec_json: str, visibility: Visibility, idempotency_key: str | None
    ) -> Assistant:
        """The first version. Raises AlreadyExists if the name is taken, QuotaExceeded, InvalidInput."""
        spec = await self._checked(subject, spec_json)
        digest = request_hash(spec=spec.as_json(), visibility=visibility.value)
        if repeated := await self._repeated(subject, idempotency_key, digest):
            return repeated
        self._require_free(spec.name)
        new = NewAssistant(spec.name, visibility, spec.as_json(), idempotency_key, digest)
        try:
            async with self.database.as_subject(subject) as connection:
                if await assistants.count_own(connection, subject.user_id) >= self.max_per_user:
                    raise QuotaExceeded(
                        f"You have {self.max_per_user} assistants, which is the maximum. Delete some first.",
                        retry_after_s=_FULL_RETRY_AFTER_S,
                    )
                await assistants.insert(connection, subject, new)
        except NameTakenError as error:
            # Perhaps by the same request, a moment ago.
            if repeated := await self._repeated(subject, idempotency_key, digest):
                return repeated
            raise _taken(spec.name) from error
        return (await self._changed(subject, spec.name)).shown()

    async def get(self, subject: Subject, name: str, version: str | None) -> Assistant:
        of_operator = self.known.of_operator().get(name)
        if of_operator and version in (None, of_operator.version):
            return of_operator
        number = version_number(version) if version else None
        if of_operator or (version and number is None):
            raise _no_such()
        return (await self._found(subject, name, number)).shown()

    async def list(self, subject: Subject, *, limit: int, cursor: str | None) -> Page[Assistant]:
        """By name: those of the operator, the user's own, and those shared with the organisation."""
        after = decode_name_cursor(cursor, NAME_PATTERN) if cursor else ""
        async with self.database.as_subject(subject) as connection:
            stored = await assistants.list_visible(connection, subject, limit=limit + 1, after=after)
        shown = {one.name: one.shown() for one in stored}
        shown |= {name: one for name, one in self.known.of_operator().items() if name > after}
        page, more = first_page([shown[name] for name in sorted(shown)], limit, _bytes)
        return Page(page, encode_name_cursor(page[-1].name) if more else None)

    async def update(
        self, subject: Subject, spec_json: str, expected: str | None, visibility: Visibility | None
    ) -> Assistant:
        """A new version, which becomes the current one. Raises Conflict if `expected` is not current any more."""
        spec = await self._checked(subject, spec_json)

        async def change(connection: Connection, stored: StoredAssistant) -> bool:
            return await assistants.add_version(
                connection,
                stored.id,
                spec.as_json(),
                by=subject.user_id,
                expected=_expected(expected),
                visibility=visibility,
            )

        try:
            return await self._change(subject, spec.name, change)
        except NameTakenError as error:
            raise _taken(spec.name) from error

    async def set_current(self, subject: Subject, name: str, version: str, expected: str | None) -> Assistant:
        """Makes an earlier version the current one. Raises as `update`."""
        number = version_number(version)
        if number is None:
            raise _no_such()
        await self._found(subject, name, number)

        async def change(connection: Connection, stored: StoredAssistant) -> bool:
            return await assistants.set_current(connection, stored.id, number, expected=_expected(expected))

        return await self._change(subject, name, change)

    async def delete(self, subject: Subject, name: str, expected: str | None) -> None:
        """Deletes it with all versions. Runs in progress keep their plans. Raises as `update`."""
        stored = await self._to_change(subject, name)
        async with self._as_changer(subject, stored) as connection:
            if not await assistants.delete(connection, stored.id, expected=_expected(expected)):
                raise _not_current()
        self.known.forget()

    async def versions(self, subject: Subject, name: str, *, limit: int, cursor: str | None) -> Page[Assistant]:
        """Newest first. A file has the one that it contains."""
        if of_operator := self.known.of_operator().get(name):
            return Page([of_operator], None)
        stored = await self._found(subject, name)
        before = decode_position_cursor(cursor, 1)[0] if cursor else None
        async with self.database.as_subject(subject) as connection:
            rows = await assistants.list_versions(connection, stored.id, limit=limit + 1, before=before)
        page, more = first_page(rows, limit, lambda row: text_bytes(row.spec_json))
        return Page([row.shown() for row in page], encode_position_cursor(page[-1].version) if more else None)

    async def set_disabled(self, subject: Subject, name: str, *, is_disabled: bool) -> Assistant:
        """The kill switch: no new run, and runs in progress are cancelled within five seconds on every replica."""
        if name in self.known.of_operator():
            if not subject.is_admin:
                raise PermissionDenied("Only administrators may disable an assistant of the service.")
            async with self.database.as_worker() as connection:
                await disabled_assistants.switch(connection, name, is_disabled=is_disabled, by=subject.user_id)
            await self.known.refresh()
            return self.known.of_operator()[name]
        stored = await self._to_change(subject, name)
        async with self._as_changer(subject, stored) as connection:
            await disabled_assistants.disable(connection, stored.id, is_disabled=is_disabled)
        shown = (await self._changed(subject, name)).shown()
        await self.known.refresh()
        return shown

    # --- inside

    async def _checked(self, subject: Subject, spec_json: str) -> NamedAssistantSpec:
        """Raises InvalidInput with all faults."""
        spec = parsed(spec_json)
        if faults := (*self.known.planner.faults(spec), *await self.known.teams.faults(subject, spec)):
            raise InvalidInput("The assistant is not valid.", fields=faults)
        return spec

    def _require_free(self, name: str) -> None:
        if name in self.known.of_operator():
            raise AlreadyExists(f"{name!r} is an assistant of the service's files.", reason="ASSISTANT_IN_FILES")

    async def _repeated(self, subject: Subject, key: str | None, digest: bytes) -> Assistant | None:
        if key is None:
            return None
        async with self.database.as_subject(subject) as connection:
            before = await assistants.by_key(connection, subject.user_id, key)
        if before is None:
            return None
        name, digest_before = before
        if digest_before != digest:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
        return (await self._found(subject, name)).shown()

    async def _change(
        self, subject: Subject, name: str, change: Callable[[Connection, StoredAssistant], Awaitable[bool]]
    ) -> Assistant:
        stored = await self._to_change(subject, name)
        async with self._as_changer(subject, stored) as connection:
            if not await change(connection, stored):
                raise _not_current()
        return (await self._changed(subject, name)).shown()

    async def _to_change(self, subject: Subject, name: str) -> StoredAssistant:
        """Raises NotFound for what the caller cannot see, PermissionDenied for what they can only use."""
        if name in self.known.of_operator():
            raise AlreadyExists(
                f"{name!r} comes from the service's files, which win over the API. Change the file.",
                reason="ASSISTANT_IN_FILES",
            )
        stored = await self._found(subject, name)
        if stored.user_id != subject.user_id and not subject.may_manage_assistants:
            raise PermissionDenied("Only its creator may change this assistant.", reason="NOT_THE_CREATOR")
        return stored

    def _as_changer(self, subject: Subject, stored: StoredAssistant) -> AbstractAsyncContextManager[Connection]:
        """Row-level security lets creators alone write; `_to_change` has checked whoever else may."""
        if stored.user_id == subject.user_id:
            return self.database.as_subject(subject)
        return self.database.as_worker()

    async def _changed(self, subject: Subject, name: str) -> StoredAssistant:
        self.known.forget()
        return await self._found(subject, name)

    async def _found(self, subject: Subject, name: str, version: int | None = None) -> StoredAssistant:
        async with self.database.as_subject(subject) as connection:
            stored = await assistants.find(connection, subject, name, version)
        if stored is None:
            raise _no_such()
        return stored


def _expected(version: str | None) -> int | None:
    """A version that no assistant has, for a text that is none: nothing is changed then."""
    if version is None:
        return None
    number = version_number(version)
    return 0 if number is None else number


def _bytes(assistant: Assistant) -> int:
    return text_bytes(assistant.spec_json)


def _no_such() -> NotFound:
    return NotFound("There is no such assistant.", reason="NO_SUCH_ASSISTANT")


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"There is an assistant named {name!r} already.", reason="ASSISTANT_NAME_TAKEN")


def _not_current() -> Conflict:
    return Conflict("The assistant has been changed meanwhile. Read it again.", reason="ASSISTANT_CHANGED")
