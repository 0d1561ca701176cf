"""Mounted volumes exist, and files that settings name are mounted."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from deploy.manifests import Object, Release, Workload


def mounts_have_volumes(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        volumes = {volume["name"] for volume in workload.spec.get("volumes", [])}
        for container in workload.containers():
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{workload}, container {container['name']} mounts {mount['name']}, which is no volume"


def volumes_are_mounted(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        mounted = {mount["name"] for container in workload.containers() for mount in container.get("volumeMounts", [])}
        for volume in workload.spec.get("volumes", []):
            if volume["name"] not in mounted:
                yield f"{workload}: nothing mounts volume {volume['name']}"


def volume_names_are_unique(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        names = [volume["name"] for volume in workload.spec.get("volumes", [])]
        if len(set(names)) < len(names):
            yield f"{workload} has two volumes of one name: {names}"


def mount_paths_are_unique(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        for container in workload.containers():
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            if len(set(paths)) < len(paths):
                yield f"{workload}, container {container['name']} mounts twice at one path: {paths}"


def tmp_can_be_written(release: Release) -> Iterator[str]:
    """The only writable folder of the images is /tmp."""
    for workload in release.workloads:
        for container in workload.containers():
            mount = mount_of(container, "/tmp/x")  # noqa: S108 - a path in the pod
            volume = volume_of(workload, mount["name"]) if mount else {}
            if "emptyDir" not in volume or (mount or {}).get("readOnly"):
                yield f"{workload}, container {container['name']} cannot write to /tmp"


def files_of_settings_are_mounted(release: Release) -> Iterator[str]:
    for workload in release.workloads:
        for container in workload.containers():
            for entry in container.get("env", []):
                path = str(entry.get("value") or "")
                if entry["name"].endswith("_FILE") and not key_at(workload, container, path):
                    yield f"{workload}: {entry['name']} is {path}, and no file is mounted there"


def key_at(workload: Workload, container: Object, path: str) -> str | None:
    """The key of the Secret (or ConfigMap) that is mounted as the file `path`."""
    mount = mount_of(container, path)
    volume = volume_of(workload, mount["name"]) if mount else {}
    inside = str(PurePosixPath(path).relative_to(mount["mountPath"])) if mount else ""
    sources = [*volume.get("projected", {}).get("sources", []), {"secret": volume.get("secret") or {}}]
    items = [item for source in sources for item in (source.get("secret") or {}).get("items", [])]
    return next((item["key"] for item in items if item["path"] == inside), None)


def mount_of(container: Object, path: str) -> Object | None:
    """The innermost mount that contains a path."""
    mounts: list[Object] = container.get("volumeMounts", [])
    holding = [mount for mount in mounts if PurePosixPath(path).is_relative_to(mount["mountPath"])]
    return max(holding, key=lambda mount: len(mount["mountPath"]), default=None)


def volume_of(workload: Workload, name: str) -> Object:
    volumes: list[Object] = workload.spec.get("volumes", [])
    return next((volume for volume in volumes if volume["name"] == name), {})
