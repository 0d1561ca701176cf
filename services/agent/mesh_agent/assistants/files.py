"""Assistants in files of the operator: a folder of YAML, one assistant a file."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from mesh_common.assistant import MAX_SPEC_BYTES, NamedAssistantSpec, validated
from mesh_common.errors import FieldFault, InvalidInput

from mesh_agent.assistants.planning import Planner
from mesh_agent.assistants.teams import faults_among

_SUFFIXES: Final = (".yaml", ".yml")
_MAX_FILES: Final = 500
_VERSION_CHARS: Final = 12


@dataclass(frozen=True, slots=True)
class FileFault:
    """`line` counts from 1; 0 if the fault has no place."""

    file: str
    line: int
    field: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.text}" if self.field else f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class FileAssistant:
    """`version` is made from the description: equal descriptions have equal versions."""

    file: str
    version: str
    spec: NamedAssistantSpec


@dataclass(frozen=True, slots=True)
class ReadFolder:
    """All files that are valid, by the names of their assistants, and all faults of the others."""

    assistants: dict[str, FileAssistant]
    faults: Sequence[FileFault]


def read_folder(folder: Path, planner: Planner | None) -> ReadFolder:
    """`planner` checks the names of models, tools and graphs; without one they are not checked."""
    found: dict[str, FileAssistant] = {}
    faults: list[FileFault] = []
    paths = _files(folder)
    if len(paths) > _MAX_FILES:
        faults.append(FileFault(folder.name, 0, "", f"has more than {_MAX_FILES} files"))
    for path in paths[:_MAX_FILES]:
        try:
            assistant = _read(path, planner)
        except _InvalidFileError as invalid:
            faults += invalid.faults
            continue
        if other := found.get(assistant.spec.name):
            faults.append(FileFault(path.name, 0, "name", f"is the name of the assistant in {other.file}, too"))
        else:
            found[assistant.spec.name] = assistant
    return ReadFolder(found, [*faults, *_without_faulty_teams(folder, found)])


def _without_faulty_teams(folder: Path, found: dict[str, FileAssistant]) -> Iterator[FileFault]:
    """Removes assistants whose members are not among them, and then those whose members these are."""
    while faulty := faults_among(
        {name: one.spec for name, one in found.items()}, {name: one.version for name, one in found.items()}
    ):
        for name, faults in faulty.items():
            path = folder / found.pop(name).file
            _, node = _parsed(path)
            yield from (_placed(path, node, fault) for fault in faults)


def stamp_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file does. Kubernetes replaces the files of a ConfigMap by a link to another folder."""
    stats = [(path, path.stat()) for path in _files(folder)]
    return tuple((path.name, stat.st_mtime_ns, stat.st_ino) for path, stat in stats)


class _InvalidFileError(Exception):
    def __init__(self, faults: Sequence[FileFault]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())


def _read(path: Path, planner: Planner | None) -> FileAssistant:
    content, node = _parsed(path)
    try:
        if not isinstance(content, dict):
            raise _InvalidFileError([FileFault(path.name, 1, "", "is not a mapping")])
        content.setdefault("name", path.stem)
        spec = validated(content)
        faults = list(planner.faults(spec)) if planner else []
    except InvalidInput as invalid:
        faults = list(invalid.fields)
    if faults:
        raise _InvalidFileError([_placed(path, node, fault) for fault in faults])
    return FileAssistant(path.name, version_of(spec), spec)


def version_of(spec: NamedAssistantSpec) -> str:
    return hashlib.sha256(spec.as_json().encode()).hexdigest()[:_VERSION_CHARS]


def _parsed(path: Path) -> tuple[Any, yaml.Node | None]:
    """The content, and the places of its parts."""
    if path.stat().st_size > MAX_SPEC_BYTES:
        raise _InvalidFileError([FileFault(path.name, 0, "", f"is longer than {MAX_SPEC_BYTES} bytes")])
    try:
        text = path.read_text(encoding="utf-8")
        # Aliases can make a small file an endless document.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise _InvalidFileError([FileFault(path.name, 0, "", "contains an alias (*), which is not allowed")])
        return yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise _InvalidFileError([FileFault(path.name, 0, "", "is not UTF-8")]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "is not YAML"
        raise _InvalidFileError([FileFault(path.name, mark.line + 1 if mark else 0, "", problem)]) from error
    except RecursionError as error:
        raise _InvalidFileError([FileFault(path.name, 0, "", "is nested too deeply")]) from error


def _placed(path: Path, node: yaml.Node | None, fault: FieldFault) -> FileFault:
    return FileFault(path.name, _line(node, fault.field.split(".")), fault.field, fault.message)


def _line(node: yaml.Node | None, steps: Sequence[str]) -> int:
    """The line of the deepest step that the file contains."""
    line = node.start_mark.line + 1 if node else 0
    for step in steps:
        child = _child(node, step)
        if child is None:
            break
        place, node = child
        line = place.start_mark.line + 1
    return line


def _child(node: Any, step: str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in _pairs(node) if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and step.isdecimal() and int(step) < len(node.value):
        entry = node.value[int(step)]
        return entry, entry
    return None


def _pairs(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    yield from ((key, value) for key, value in node.value)
