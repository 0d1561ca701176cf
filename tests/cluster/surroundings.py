"""The services around a release, from tests/cluster/kustomize: database, Valkey, model, marks, collector."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from support.kustomize import write_overlay

from cluster.kubectl import Kubectl
from cluster.processes import run
from cluster.settings import ClusterSettings

_BASE: Final = Path(__file__).parent / "kustomize"
STAND_INS: Final = ("mesh-postgres", "mesh-valkey", "mesh-simulator")
# As named in that folder.
_LOCAL: Final = "localhost"
_COLLECTOR: Final = "docker.io/otel/opentelemetry-collector-contrib"
_PROMETHEUS: Final = "docker.io/prom/prometheus"
SIMULATOR_PORT: Final = 8090
SIMULATOR_URL: Final = f"http://simulator:{SIMULATOR_PORT}"
MARKS_PORT: Final = 8091
MARKS_URL: Final = f"http://marks:{MARKS_PORT}"


async def apply_surroundings(kubectl: Kubectl, settings: ClusterSettings) -> None:
    """Applies the services. They wait for the Secrets that the release creates."""
    with TemporaryDirectory() as folder:
        images = {
            f"{_LOCAL}/{name}": f"{settings.image_registry}/{name}:{settings.image_tag}" for name in STAND_INS
        } | {_COLLECTOR: settings.otelcol_image, _PROMETHEUS: settings.prometheus_image}
        write_overlay(
            Path(folder), _BASE, namespace=kubectl.namespace, images=images, avoided_node=settings.cut_node or None
        )
        manifests = await run("kubectl", "kustomize", folder)
    await kubectl.apply(manifests)
