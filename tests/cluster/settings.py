"""Which cluster, and how what no Kubernetes API offers is done there."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClusterSettings(BaseSettings):
    """From the environment, without a prefix: KUBECONFIG is everyone's."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    kubeconfig: Path | None = None
    """The cluster; without one there is nothing to test."""
    image_load: str = ""
    """Command that brings images into the nodes, given their names (`kind load docker-image`); empty: nodes pull."""
    image_registry: str = "localhost"
    """Where `make images` put them."""
    image_tag: str = "dev"
    """Their tag."""
    container_engine: str = Field(default="podman", pattern="^(podman|docker)$")
    """Builds the next version of the images, which has a migration more."""
    otelcol_image: str = "otel/opentelemetry-collector-contrib:0.155.0"
    """OpenTelemetry Collector."""
    prometheus_image: str = "prom/prometheus:v3.13.3"
    """Prometheus."""
    gateway_class: str = "envoy"
    """GatewayClass of the Gateway API."""
    gateway_namespace: str = "envoy-gateway-system"
    """Where its proxies run: they alone may call the gateway service."""
    node_cut: str = ""
    """Command that takes a node off the network, given its number's name; empty: those tests are skipped."""
    node_heal: str = ""
    """Command that brings it back."""
    cut_node: str = "node2"
    """The node that is cut: it gets agents, and nothing that the test needs to stay."""
    upgrade_streams: int = Field(default=100, ge=1, le=1_000)
    """Streams that are open while the release is upgraded and rolled back."""
    keep_namespaces: bool = False
    """Leave everything in place, to look at it; the next run goes on with it."""
