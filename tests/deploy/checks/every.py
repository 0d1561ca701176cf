"""All checks by name. Every value set and every valid combination of values must pass them."""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Final

from deploy.checks import (
    accounts,
    environment,
    images,
    network,
    objects,
    ports,
    resources,
    restricted,
    scaling,
    schemas,
    secret_references,
    selectors,
    shutdown,
    volumes,
)
from deploy.manifests import Release

type Check = Callable[[Release], Iterator[str]]

_MODULES: Final = (
    objects,
    selectors,
    ports,
    scaling,
    environment,
    secret_references,
    volumes,
    resources,
    images,
    shutdown,
    restricted,
    accounts,
    network,
    schemas,
)


def _checks_of(module: ModuleType) -> Iterator[tuple[str, Check]]:
    """Functions whose only parameter is a release, in the order of the file."""
    for name, member in vars(module).items():
        if getattr(member, "__module__", "") == module.__name__ and _is_check(member):
            yield name, member


def _is_check(member: object) -> bool:
    annotations = getattr(member, "__annotations__", {})
    name = getattr(member, "__name__", "_")
    return not name.startswith("_") and annotations.get("release") is Release and annotations["return"] == Iterator[str]


CHECKS: Final[Mapping[str, Check]] = dict(check for module in _MODULES for check in _checks_of(module))


def faults_of(release: Release) -> list[str]:
    return [f"{name}: {fault}" for name, check in CHECKS.items() for fault in check(release)]
