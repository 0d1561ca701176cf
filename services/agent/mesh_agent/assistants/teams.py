"""Puts teams together: a supervisor or a handoff assistant with the plans of its members."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from mesh_common.assistant import Member, NamedAssistantSpec
from mesh_common.errors import FieldFault, MeshError, PreconditionFailed
from mesh_common.subject import Subject

from mesh_agent.assistants.model import RunnableAssistant
from mesh_agent.plans.plan import DEFAULT_ASSISTANT, PlannedMember, PlannedTeam, TeamKind

# Supervisors of supervisors; each level multiplies what a run may cost.
_MAX_DEPTH: Final = 3
_MAX_TEAMS: Final = 500
_NO_MEMBERS: Final = frozenset({"graph", "handoff"})


class Teams:
    """`find` returns one assistant without members, as `KnownAssistants.runnable` does."""

    def __init__(self, find: Callable[[Subject, str], Awaitable[RunnableAssistant]]) -> None:
        self._find = find
        # One object for one state of all members, as plans are cached by their assistant.
        self._put_together = lru_cache(_MAX_TEAMS)(_put_together)

    async def complete(self, subject: Subject, found: RunnableAssistant) -> RunnableAssistant:
        """The assistant with all members. Raises PreconditionFailed if one of them cannot work."""
        return await self._completed(subject, found, ())

    async def faults(self, subject: Subject, spec: NamedAssistantSpec) -> list[FieldFault]:
        """Why the members of a description could not work."""
        faults = list(_named_twice(spec))
        for index, member in enumerate(spec.members):
            try:
                await self._member(subject, member, (spec.name,))
            except MeshError as error:
                faults.append(FieldFault(f"members.{index}", error.message))
        return faults

    async def _completed(self, subject: Subject, found: RunnableAssistant, above: tuple[str, ...]) -> RunnableAssistant:
        if not found.members:
            return found
        members = [await self._member(subject, one, (*above, found.name)) for one in found.members]
        return self._put_together(found, tuple(members))

    async def _member(self, subject: Subject, member: Member, above: tuple[str, ...]) -> RunnableAssistant:
        if fault := _misplaced(member.name, above):
            raise PreconditionFailed(fault, reason="TEAM_INVALID")
        found = await self._find(subject, member.assistant)
        if fault := _unfit(found.kind, member.name):
            raise PreconditionFailed(fault, reason="TEAM_INVALID")
        return await self._completed(subject, found, above)


def _put_together(found: RunnableAssistant, members: tuple[RunnableAssistant, ...]) -> RunnableAssistant:
    planned = tuple(
        PlannedMember(one.name, described.description or one.description, one.plan, str(one.id) if one.id else "")
        for described, one in zip(found.members, members, strict=True)
    )
    team = PlannedTeam(TeamKind(found.kind), planned)
    return replace(found, plan=replace(found.plan, team=team), members=())


def faults_among(specs: Mapping[str, NamedAssistantSpec], versions: Mapping[str, str]) -> dict[str, list[FieldFault]]:
    """Faults of the members of these assistants, by the assistant's name. No others may be members."""
    found = {name: list(_faults(spec, specs, versions, (name,))) for name, spec in specs.items()}
    return {name: faults for name, faults in found.items() if faults}


def _faults(
    spec: NamedAssistantSpec,
    specs: Mapping[str, NamedAssistantSpec],
    versions: Mapping[str, str],
    above: tuple[str, ...],
) -> Iterator[FieldFault]:
    yield from _named_twice(spec)
    for index, member in enumerate(spec.members):
        if fault := _fault(member, specs, versions, above):
            yield FieldFault(f"members.{index}", fault)


def _fault(
    member: Member, specs: Mapping[str, NamedAssistantSpec], versions: Mapping[str, str], above: tuple[str, ...]
) -> str:
    if fault := _misplaced(member.name, above):
        return fault
    spec = specs.get(member.name)
    version = member.assistant.partition("@")[2]
    if spec is None:
        # The settings describe it, if no file does.
        return "" if member.assistant == DEFAULT_ASSISTANT else f"there is no assistant {member.name!r}"
    if version and version != versions[member.name]:
        return f"the assistant {member.name!r} has no version {version}"
    if fault := _unfit(spec.kind, member.name):
        return fault
    inner: Sequence[FieldFault] = list(_faults(spec, specs, versions, (*above, member.name)))
    return f"the assistant {member.name!r} cannot work: {inner[0].message}" if inner else ""


def _named_twice(spec: NamedAssistantSpec) -> Iterator[FieldFault]:
    """Two versions of an assistant have one name, by which models and events would not tell them apart."""
    names = [member.name for member in spec.members]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield FieldFault(f"members.{index}", f"the assistant {name!r} is named twice")


def _misplaced(name: str, above: tuple[str, ...]) -> str:
    if name in above:
        return f"the team is circular: {' → '.join((*above, name))}"
    if len(above) > _MAX_DEPTH:
        return f"teams may be nested {_MAX_DEPTH} deep"
    return ""


def _unfit(kind: str, name: str) -> str:
    return f"the assistant {name!r} is of the kind {kind}, which cannot be a member" if kind in _NO_MEMBERS else ""
