"""A kustomize overlay: sets a namespace and image names that only the caller knows."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

_WORKLOADS = "Deployment|StatefulSet"


def write_overlay(
    folder: Path, base: Path, *, namespace: str, images: Mapping[str, str], avoided_node: str | None = None
) -> None:
    """Writes an overlay to `folder` that renders `base` in `namespace`.

    `images` maps names as in `base`, without tag, to full references. No pod is scheduled on `avoided_node` (its
    `kubernetes.io/hostname`).
    """
    overlay: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        # kustomize accepts neither absolute paths nor paths through symbolic links.
        "resources": [os.path.relpath(base.resolve(), folder.resolve())],
        "images": [{"name": name, **_parts(reference)} for name, reference in images.items()],
    }
    if avoided_node:
        patch = orjson.dumps(_elsewhere(avoided_node)).decode()
        overlay["patches"] = [{"target": {"kind": _WORKLOADS}, "patch": patch}]
    # JSON is valid YAML.
    (folder / "kustomization.yaml").write_bytes(orjson.dumps(overlay, option=orjson.OPT_INDENT_2))


def _parts(reference: str) -> dict[str, str]:
    """Splits `host:5000/name:tag` or `host:5000/name@sha256:…` as kustomize expects."""
    name, _, digest = reference.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    version = {"digest": digest} if digest else {"newTag": tag or "latest"}
    return {"newName": f"{head}{slash}{last}", **version}


def _elsewhere(node: str) -> dict[str, Any]:
    expression = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "any"},
        "spec": {"template": {"spec": {"affinity": affinity}}},
    }
