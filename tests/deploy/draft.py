"""A release that tests modify to see that a check finds the fault."""

from copy import deepcopy
from dataclasses import replace

from deploy.manifests import Object, Release, name_of


class Draft:
    """A modifiable copy of a release's objects."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self.objects = list(deepcopy(release.objects))

    def find(self, kind: str, name: str = "") -> Object:
        """The object of this kind whose name ends with `name`; the first one by default."""
        return next(thing for thing in self.objects if thing["kind"] == kind and name_of(thing).endswith(name))

    def pod(self, kind: str, name: str = "") -> Object:
        """The spec of its pods."""
        found: Object = self.find(kind, name)["spec"]["template"]["spec"]
        return found

    def container(self, service: str) -> Object:
        container: Object = self.pod("Deployment", f"-{service}")["containers"][0]
        return container

    def variable(self, service: str, name: str) -> Object:
        return next(entry for entry in self.container(service)["env"] if entry["name"] == name)

    def release(self) -> Release:
        return replace(self._release, objects=tuple(self.objects))
