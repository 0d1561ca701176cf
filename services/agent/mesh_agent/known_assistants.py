"""Finds the assistant of a run, and stops those that are disabled.

Files win over the API. What the database says is cached for a moment, so that a turn runs no statement for its
assistant: a change of the API is used after three seconds, and a disabled assistant stops within five.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from uuid import UUID

import structlog
from mesh_common.assistant import NAME_PATTERN, parsed
from mesh_common.clock import Clock
from mesh_common.errors import InvalidInput, NotFound, PreconditionFailed, Unavailable
from mesh_common.ids import ThreadId
from mesh_common.subject import Subject

from mesh_agent.assistants.file_source import FileSource
from mesh_agent.assistants.files import FileAssistant
from mesh_agent.assistants.model import Assistant, RunnableAssistant, Source, StoredAssistant
from mesh_agent.assistants.planning import Planner
from mesh_agent.assistants.teams import Teams
from mesh_agent.metrics import ASSISTANT_RUNS_STOPPED
from mesh_agent.plans.plan import DEFAULT_ASSISTANT, PlannedMember, RunPlan
from mesh_agent.store import Database, assistants, disabled_assistants
from mesh_agent.store.assistants import version_number
from mesh_agent.store.disabled_assistants import Disabled

log = structlog.get_logger()

_FRESH_S: Final = 3.0
_WATCH_S: Final = 2.0
_MAX_CACHED: Final = 2_000
_MAX_THREADS: Final = 20_000
_MAX_PLANS: Final = 500


@dataclass(frozen=True, slots=True)
class _Looked:
    found: StoredAssistant | None
    until_s: float


class KnownAssistants:
    """One per process. `run` keeps it up to date until it is cancelled."""

    def __init__(
        self, database: Database, default: Callable[[], RunPlan], planner: Planner, files: FileSource, clock: Clock
    ) -> None:
        """`default`: the plan that the settings describe; a new object whenever it changes."""
        self._database = database
        self._default = default
        self.planner = planner
        self._files = files
        self._clock = clock
        self._looked: OrderedDict[tuple[Subject, str, int | None], _Looked] = OrderedDict()
        self._threads: OrderedDict[ThreadId, str] = OrderedDict()
        self._disabled = Disabled()
        self.teams = Teams(self._find)
        # A plan depends on the tools of the moment, which the default plan has.
        self._of_settings = lru_cache(1)(self._make_of_settings)
        self._of_file = lru_cache(_MAX_PLANS)(self._make_of_file)
        self._of_api = lru_cache(_MAX_PLANS)(self._make_of_api)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._files.run(self.planner))

    # --- for runs

    async def runnable(self, subject: Subject, reference: str | None) -> RunnableAssistant:
        """`reference`: `name` or `name@version`; None for the default assistant.

        Raises NotFound, PreconditionFailed if it is disabled, Unavailable.
        """
        return await self.teams.complete(subject, await self._find(subject, reference or DEFAULT_ASSISTANT))

    async def _find(self, subject: Subject, reference: str) -> RunnableAssistant:
        name, version = split(reference)
        found = self._of_operator(name, version) or await self._of_database(subject, name, version)
        if found is None:
            raise NotFound(f"There is no assistant {reference!r}.", reason="NO_SUCH_ASSISTANT")
        self.require_enabled(found.name, found.id)
        return found

    def require_enabled(self, name: str, id_: UUID | None) -> None:
        """Raises PreconditionFailed."""
        if self._is_disabled(name, id_):
            raise disabled_error(name)

    def is_enabled(self, member: PlannedMember) -> bool:
        return not self._is_disabled(member.name, UUID(member.id) if member.id else None)

    def _is_disabled(self, name: str, id_: UUID | None) -> bool:
        return id_ in self._disabled.ids if id_ else name in self._disabled.names

    def assistant_of(self, thread_id: ThreadId) -> str | None:
        """The assistant that this replica knows of the thread. The database may know another."""
        return self._threads.get(thread_id)

    def remember(self, thread_id: ThreadId, reference: str) -> None:
        self._threads[thread_id] = reference
        self._threads.move_to_end(thread_id)
        if len(self._threads) > _MAX_THREADS:
            self._threads.popitem(last=False)

    # --- for the API

    def of_operator(self) -> dict[str, Assistant]:
        """Those of files and of the settings, by name."""
        shown = {name: self._shown(of_file) for name, of_file in self._files.assistants.items()}
        if DEFAULT_ASSISTANT not in shown:
            shown[DEFAULT_ASSISTANT] = Assistant(
                DEFAULT_ASSISTANT, "", Source.FILE, "{}", is_disabled=DEFAULT_ASSISTANT in self._disabled.names
            )
        return shown

    def _shown(self, of_file: FileAssistant) -> Assistant:
        name = of_file.spec.name
        is_disabled = name in self._disabled.names
        return Assistant(name, of_file.version, Source.FILE, of_file.spec.as_json(), is_disabled=is_disabled)

    async def refresh(self) -> None:
        """Reads what is disabled, and stops the runs of that."""
        async with self._database.as_worker() as connection:
            self._disabled = found = await disabled_assistants.disabled(connection)
            stopped = await disabled_assistants.cancel_runs(connection, found) if found else 0
        if stopped:
            ASSISTANT_RUNS_STOPPED.inc(stopped)
            log.warning("assistant.runs_stopped", runs=stopped)

    def forget(self) -> None:
        """Looks everything up anew, after a change that this replica has made."""
        self._looked.clear()

    # --- inside

    async def _watch(self) -> None:
        while True:
            try:
                await self.refresh()
            except Unavailable:
                log.debug("assistants.not_refreshed")
            await asyncio.sleep(_WATCH_S)

    def _of_operator(self, name: str, version: str | None) -> RunnableAssistant | None:
        of_file = self._files.assistants.get(name)
        if of_file:
            if version not in (None, of_file.version):
                raise _no_version(name)
            return self._of_file(_Same(of_file), _Same(self._default()))
        if name != DEFAULT_ASSISTANT:
            return None
        if version:
            raise _no_version(name)
        return self._of_settings(_Same(self._default()))

    async def _of_database(self, subject: Subject, name: str, version: str | None) -> RunnableAssistant | None:
        number = version_number(version) if version else None
        if version and number is None:
            raise _no_version(name)
        stored = await self._look_up(subject.without_grants(), name, number)
        return self._of_api(stored, _Same(self._default())) if stored else None

    async def _look_up(self, subject: Subject, name: str, version: int | None) -> StoredAssistant | None:
        key = subject, name, version
        looked = self._looked.get(key)
        if looked is None or self._clock.monotonic_s() >= looked.until_s:
            async with self._database.as_subject(subject) as connection:
                found = await assistants.find(connection, subject, name, version)
            looked = self._looked[key] = _Looked(found, self._clock.monotonic_s() + _FRESH_S)
            self._looked.move_to_end(key)
            if len(self._looked) > _MAX_CACHED:
                self._looked.popitem(last=False)
        return looked.found

    def _make_of_settings(self, default: "_Same[RunPlan]") -> RunnableAssistant:
        return RunnableAssistant(DEFAULT_ASSISTANT, "", default.value)

    def _make_of_file(self, of_file: "_Same[FileAssistant]", _: "_Same[RunPlan]") -> RunnableAssistant:
        spec, version = of_file.value.spec, of_file.value.version
        return self.planner.runnable(spec, version)

    def _make_of_api(self, stored: StoredAssistant, _: "_Same[RunPlan]") -> RunnableAssistant:
        return self.planner.runnable(parsed(stored.spec_json), str(stored.version), stored.id)


class _Same[T]:
    """A key of a cache: equal only to the same object."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def split(reference: str) -> tuple[str, str | None]:
    """`name` or `name@version`. Raises InvalidInput."""
    name, at, version = reference.partition("@")
    if not NAME_PATTERN.fullmatch(name) or (at and not _VERSION.fullmatch(version)):
        raise InvalidInput.of_field("assistant", "must be a name, or a name and a version as in `name@3`")
    return name, version or None


_VERSION: Final = re.compile(r"[0-9a-f]{1,16}", re.ASCII)


def disabled_error(name: str) -> PreconditionFailed:
    return PreconditionFailed(f"The assistant {name!r} is disabled.", reason="ASSISTANT_DISABLED")


def _no_version(name: str) -> NotFound:
    return NotFound(f"The assistant {name!r} has no such version.", reason="NO_SUCH_ASSISTANT")
