"""Names and labels of each object."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from deploy.manifests import COMPONENT, Object, Release, annotations_of, labels_of, name_of

_STANDARD: Final = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    COMPONENT,
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
# RFC 1035 for Services, RFC 1123 for others. With the suffix of a Job's or Deployment's pods it must fit into 63 too.
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


def names_are_unique(release: Release) -> Iterator[str]:
    counted = Counter((thing["kind"], thing["metadata"].get("namespace"), name_of(thing)) for thing in release.objects)
    return (f"{kind} {name} is there {count} times" for (kind, _, name), count in counted.items() if count > 1)


def names_are_valid(release: Release) -> Iterator[str]:
    return (
        f"{thing['kind']} {name_of(thing)!r} has a name that Kubernetes does not take"
        for thing in release.objects
        if not _NAME.fullmatch(name_of(thing))
    )


def objects_are_in_the_namespace(release: Release) -> Iterator[str]:
    return (
        f"{thing['kind']} {name_of(thing)} is in namespace {thing['metadata'].get('namespace')}"
        for thing in release.own_objects
        if thing["metadata"].get("namespace") != release.namespace
    )


def labels_are_standard(release: Release) -> Iterator[str]:
    for thing in release.own_objects:
        for label in sorted(_STANDARD - set(labels_of(thing))):
            yield f"{thing['kind']} {name_of(thing)} lacks the label {label}"


def labels_are_valid(release: Release) -> Iterator[str]:
    for thing in release.objects:
        for label, value in [*labels_of(thing).items(), *_labels_of_pods(release, thing)]:
            if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
                yield f"{thing['kind']} {name_of(thing)}: label {label} cannot be {value!r}"


def annotations_are_texts(release: Release) -> Iterator[str]:
    for thing in release.objects:
        for annotation, value in annotations_of(thing).items():
            if not isinstance(value, str):
                yield f"{thing['kind']} {name_of(thing)}: annotation {annotation} is {value!r}, no text"


def _labels_of_pods(release: Release, thing: Object) -> list[tuple[str, object]]:
    return [item for workload in release.workloads if workload.owner is thing for item in workload.labels.items()]
