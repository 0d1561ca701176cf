"""The cluster, and the commands for operations that no Kubernetes API offers."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClusterSettings(BaseSettings):
    """Read from the environment, without a prefix, because KUBECONFIG has none."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    kubeconfig: Path | None = None
    """The cluster. Without one, the tests are skipped."""
    image_load: str = ""
    """Command that loads the named images into the nodes (`kind load docker-image`). Empty: nodes pull them."""
    image_registry: str = "localhost"
    """Repository of the images from `make images`."""
    image_tag: str = "dev"
    """Tag of the images."""
    container_engine: str = Field(default="podman", pattern="^(podman|docker)$")
    """Command that builds the next version of the images, which has one more migration."""
    otelcol_image: str = "otel/opentelemetry-collector-contrib:0.155.0"
    """Image of the OpenTelemetry Collector."""
    prometheus_image: str = "prom/prometheus:v3.13.3"
    """Image of Prometheus."""
    gateway_class: str = "envoy"
    """Name of the GatewayClass (Gateway API)."""
    gateway_namespace: str = "envoy-gateway-system"
    """Namespace of its proxies. Only they may call the gateway service."""
    node_cut: str = ""
    """Command that disconnects the named node from the network. Empty: the tests that need it are skipped."""
    node_heal: str = ""
    """Command that reconnects the node."""
    cut_node: str = "node2"
    """The node that is disconnected. It runs agents, and nothing that the test needs throughout."""
    before_tag: str = ""
    """Tag of the images of the release before, to upgrade from. Empty: the test that needs them is skipped."""
    before_chart: Path | None = None
    """Folder of its chart."""
    upgrade_streams: int = Field(default=100, ge=1, le=1_000)
    """Number of streams that are open while the release is upgraded and rolled back."""
    keep_namespaces: bool = False
    """Keep everything for inspection. The next run continues with it."""
