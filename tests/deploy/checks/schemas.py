"""Every object is valid by its kind's schema, without unknown fields. scripts/deploy-tools.sh provides the schemas."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT7

from deploy.helm import TESTED_VERSION
from deploy.manifests import Release, name_of
from deploy.programs import SCHEMAS

type Schema = bool | Mapping[str, Any]

_BUILT_IN: Final = SCHEMAS / "kubernetes"
CUSTOM: Final = SCHEMAS / "crds"
_LONGEST_MESSAGE: Final = 200
_DEFINITIONS: Final = "_definitions.json"


def objects_follow_their_schema(release: Release, version: str = TESTED_VERSION) -> Iterator[str]:
    """A kind without a schema is a fault too, except that machines without Go have no schemas of custom resources."""
    for thing in release.objects:
        path = _path_of(thing["apiVersion"], thing["kind"], version)
        if path.is_relative_to(CUSTOM) and not CUSTOM.exists():
            continue
        if not path.exists():
            yield f"{thing['kind']} {name_of(thing)}: there is no kind {thing['kind']} in {thing['apiVersion']}"
            continue
        for error in _validator(path, version).iter_errors(thing):
            yield f"{thing['kind']} {name_of(thing)}: {_where(error)}: {error.message[:_LONGEST_MESSAGE]}"


def _path_of(api_version: str, kind: str, version: str) -> Path:
    group, _, name = api_version.rpartition("/")
    if _is_custom(group):
        return CUSTOM / group / f"{kind.lower()}_{name}.json"
    parts = [kind.lower(), *([group.partition(".")[0]] if group else []), name]
    return _BUILT_IN / f"v{version}-standalone-strict" / f"{'-'.join(parts)}.json"


def _is_custom(group: str) -> bool:
    """Kubernetes' own groups have no dot (apps) or end in k8s.io, as does that of the Gateway API."""
    return group == "gateway.networking.k8s.io" or ("." in group and not group.endswith(".k8s.io"))


@cache
def _validator(path: Path, version: str) -> Draft7Validator:
    return Draft7Validator(json.loads(path.read_text()), registry=_registry(version))


@cache
def _registry(version: str) -> "Registry[Schema]":
    definitions: Schema = json.loads((_BUILT_IN / f"v{version}-standalone-strict" / _DEFINITIONS).read_text())
    empty: Registry[Schema] = Registry()
    full: Registry[Schema] = empty.with_resource(_DEFINITIONS, DRAFT7.create_resource(definitions))
    return full


def _where(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path) or "it"
