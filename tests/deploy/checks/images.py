"""Every container runs one of our images, the one with the code that its command names."""

from collections.abc import Iterator

from mesh_common.grpc.edges import SERVICES

from deploy.commands import command_of
from deploy.manifests import Release


def images_are_those_of_the_services(release: Release) -> Iterator[str]:
    wanted = {_image_name(release, service): service for service in SERVICES}
    for workload in release.workloads:
        for container in workload.containers():
            service = wanted.get(_repository(container["image"]))
            if service is None:
                yield f"{workload}: {container['image']} is no image of ours"
                continue
            module, _ = command_of(container) or ("mesh_admin", "")
            if module not in {"mesh_admin", f"mesh_{service}"}:
                yield f"{workload}: {container['image']} has no {module}"


def every_service_has_its_image(release: Release) -> Iterator[str]:
    used = {
        _repository(container["image"]) for workload in release.deployments() for container in workload.containers()
    }
    for service in SERVICES:
        if _image_name(release, service) not in used:
            yield f"nothing runs the image of {service}"


def images_are_fixed(release: Release) -> Iterator[str]:
    """`latest`, or no tag, could be another image tomorrow."""
    for workload in release.workloads:
        for container in workload.containers():
            image = container["image"]
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and tag in {"", "latest"}:
                yield f"{workload}: {image} is fixed by no tag and no digest"


def _image_name(release: Release, service: str) -> str:
    image = release.service_values(service)["image"]
    registry = image["registry"] or release.values["image"]["registry"]
    name = image["name"] or f"mesh-{service}"
    return f"{registry}/{name}" if registry else name


def _repository(image: str) -> str:
    repository = image.partition("@")[0]
    folder, slash, name = repository.rpartition("/")
    return f"{folder}{slash}{name.partition(':')[0]}"
