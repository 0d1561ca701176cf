# ruff: noqa: INP001 - a script beside others, no package
"""JSON schemas that kubeconform reads, from what others publish in another form.

`kubernetes <target> <version…>` lays out the schemas that the package kubernetes-validate carries;
`crds <target> <folder>` takes the schemas out of CustomResourceDefinitions, with unknown fields refused.
Run by scripts/deploy-tools.sh in the environment of those tools, which has PyYAML and kubernetes-validate.
"""

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

type Schema = dict[str, Any]

# The package names its shared definitions by an address that kubeconform would look for on the disk's root.
_PACKAGED_REFERENCE = '"/api/_definitions.json#'
_RELATIVE_REFERENCE = '"_definitions.json#'


class _Loader(yaml.CSafeLoader):
    """Reads a lone `=` as text: YAML 1.1 gives it a meaning that nobody uses, and Prometheus' CRDs list it."""


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
        # References are relative to it, and it is an address on the web.
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
    """As the API server does under strict field validation; below `metadata` it knows more than the CRD says."""
    properties: dict[str, Schema] = schema.get("properties", {})
    if properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if is_root:
        # A CRD may leave them out: every object has them.
        for name in ("apiVersion", "kind"):
            properties.setdefault(name, {"type": "string"})
        properties["metadata"] = {"type": "object"}
    for child in _children(schema):
        _refuse_unknown_fields(child)


def _children(schema: Schema) -> list[Schema]:
    """Where fields are declared. Under allOf, anyOf and not, a structural schema only narrows them."""
    below = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return [child for child in below if isinstance(child, dict)]


if __name__ == "__main__":
    main()
