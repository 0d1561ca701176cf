"""Helm's output as objects, and the pods among them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from deploy.go_yaml import load_all

type Object = dict[str, Any]
type Values = Mapping[str, Any]

SELECTOR_LABELS: Final = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")
_SOURCE: Final = "\n---\n# Source: "
_EXTRA_OBJECTS: Final = "/templates/extraobjects.yaml"
COMPONENT: Final = "app.kubernetes.io/component"


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod, or an object that creates pods. `labels`, `annotations` and `spec` are those of the pods."""

    owner: Object
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Object

    @property
    def kind(self) -> str:
        return str(self.owner["kind"])

    @property
    def name(self) -> str:
        return name_of(self.owner)

    @property
    def component(self) -> str:
        return self.labels.get(COMPONENT, "")

    @property
    def is_hook(self) -> bool:
        return "helm.sh/hook" in annotations_of(self.owner)

    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Release:
    """Every object of one rendering. `values` are all effective values, defaults included."""

    objects: tuple[Object, ...]
    values: Values
    name: str
    namespace: str
    # (kind, name) of the objects that the values contain as a whole.
    given: frozenset[tuple[str, str]] = frozenset()

    @property
    def own_objects(self) -> list[Object]:
        """The objects that the chart defines, without those from the values."""
        return [thing for thing in self.objects if (thing["kind"], name_of(thing)) not in self.given]

    def of(self, *kinds: str) -> list[Object]:
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def find(self, kind: str, name: str) -> Object | None:
        return next((thing for thing in self.of(kind) if name_of(thing) == name), None)

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        return tuple(workload for thing in self.objects if (workload := workload_of(thing)))

    def workload(self, component: str) -> Workload | None:
        return next((workload for workload in self.workloads if workload.component == component), None)

    def deployments(self) -> list[Workload]:
        return [workload for workload in self.workloads if workload.kind == "Deployment"]

    @property
    def fullname(self) -> str:
        """The prefix of all names."""
        gateway = next(workload for workload in self.deployments() if workload.component == "gateway")
        return gateway.name.removesuffix("-gateway")

    def service_values(self, service: str) -> Values:
        return merged(self.values["serviceDefaults"], self.values["services"][service] or {})


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def labels_of(thing: Object) -> Mapping[str, Any]:
    return thing["metadata"].get("labels") or {}


def annotations_of(thing: Object) -> Mapping[str, Any]:
    return thing["metadata"].get("annotations") or {}


def workload_of(thing: Object) -> Workload | None:
    match thing["kind"]:
        case "Pod":
            template = thing
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
            template = thing["spec"]["template"]
        case "CronJob":
            template = thing["spec"]["jobTemplate"]["spec"]["template"]
        case _:
            return None
    metadata = template.get("metadata") or {}
    return Workload(thing, metadata.get("labels") or {}, metadata.get("annotations") or {}, template["spec"])


def parse(text: str) -> tuple[Object, ...]:
    return tuple(load_all(text))


def given_in(text: str) -> frozenset[tuple[str, str]]:
    """(kind, name) of the extraObjects. Helm names the template once, for all documents that follow."""
    by_template = [part.partition("\n")[::2] for part in text.split(_SOURCE)]
    given = "\n---\n".join(documents for template, documents in by_template if template.endswith(_EXTRA_OBJECTS))
    return frozenset((thing["kind"], name_of(thing)) for thing in parse(given))


def everything_in(value: object, path: str = "") -> Iterator[tuple[str, str, object]]:
    """(path, key, value) of every entry of every map in `value`."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield f"{path}.{key}", str(key), child
            yield from everything_in(child, f"{path}.{key}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from everything_in(child, f"{path}[{index}]")


def merged(values: Values, changes: Values) -> dict[str, Any]:
    """Merges values as Helm does: maps by key, everything else as a whole; null removes a key."""
    result = dict(values)
    for key, value in changes.items():
        before = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result
