# ruff: noqa: INP001 - a script, not part of a package
"""Converts published schemas into the JSON schemas that kubeconform reads.

`kubernetes <target> <version…>` lays out the schemas in the package kubernetes-validate.
`crds <target> <folder>` extracts the schemas from CustomResourceDefinitions and makes them reject unknown fields.
scripts/deploy-tools.sh runs it in the environment of its tools, which has PyYAML and kubernetes-validate.
"""

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

type Schema = dict[str, Any]

# The package refers to its shared definitions by a path that kubeconform would look up at the filesystem root.
_PACKAGED_REFERENCE = '"/api/_definitions.json#'
_RELATIVE_REFERENCE = '"_definitions.json#'


class _Loader(yaml.CSafeLoader):
    """Reads a lone `=` as text: it is a special value in YAML 1.1, and Prometheus' CRDs contain it as text."""


_Loader.add_constructor("tag:yaml.org,2002:value", _Loader.construct_yaml_str)


def main() -> None:
    command, target, *arguments = sys.argv[1:]
    if command == "kubernetes":
        for version in arguments:
            _lay_out_kubernetes(Path(target), version)
    else:
        for path in sorted(Path(arguments[0]).glob("*.yaml")):
            _take_crds(path, Path(target))


def _lay_out_kubernetes(target: Path, version: str) -> None:
    packaged = Path(str(files("kubernetes_validate"))) / "kubernetes-json-schema" / f"v{version}-local-strict"
    folder = target / f"v{version}-standalone-strict"
    folder.mkdir(parents=True, exist_ok=True)
    for path in packaged.glob("*.json"):
        schema = json.loads(path.read_text().replace(_PACKAGED_REFERENCE, _RELATIVE_REFERENCE))
        # References would be resolved relative to it, and it is a web address.
        schema.pop("$id", None)
        (folder / path.name).write_text(json.dumps(schema))


def _take_crds(path: Path, target: Path) -> None:
    for document in yaml.load_all(path.read_text(), Loader=_Loader):
        if document and document.get("kind") == "CustomResourceDefinition":
            _take_crd(document["spec"], target)


def _take_crd(spec: Schema, target: Path) -> None:
    folder = target / spec["group"]
    folder.mkdir(parents=True, exist_ok=True)
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        _refuse_unknown_fields(schema, is_root=True)
        name = f"{spec['names']['kind'].lower()}_{version['name']}.json"
        (folder / name).write_text(json.dumps(schema))


def _refuse_unknown_fields(schema: Schema, *, is_root: bool = False) -> None:
    """Mirrors strict field validation, except below `metadata`, of which the API server knows more than the CRD."""
    properties: dict[str, Schema] = schema.get("properties", {})
    if properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if is_root:
        # Every object has these fields, but a CRD may omit them.
        for name in ("apiVersion", "kind"):
            properties.setdefault(name, {"type": "string"})
        properties["metadata"] = {"type": "object"}
    for child in _children(schema):
        _refuse_unknown_fields(child)


def _children(schema: Schema) -> list[Schema]:
    """The subschemas that declare fields. In a structural schema, allOf, anyOf and not only narrow them."""
    below = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return [child for child in below if isinstance(child, dict)]


if __name__ == "__main__":
    main()
