"""Traces over OTLP, head-sampled, with W3C context propagated through HTTP, gRPC, the outbox and the queues."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

tracer = trace.get_tracer("mesh")

_EXPORT_DELAY_MS = 1_000
_EXPORT_TIMEOUT_S = 5
_SHUTDOWN_TIMEOUT_MS = 5_000


@contextmanager
def tracing(service: str, *, otlp_endpoint: str | None, sample_ratio: float) -> Iterator[None]:
    """Records and exports spans until the end of the block, then flushes. Without an endpoint it records nothing."""
    if otlp_endpoint is None:
        yield
        return
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.namespace": "mesh"}),
        sampler=ParentBased(RequestRoots(sample_ratio)),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(
        endpoint=otlp_endpoint, insecure=otlp_endpoint.startswith("http://"), timeout=_EXPORT_TIMEOUT_S
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_DELAY_MS))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.force_flush(_SHUTDOWN_TIMEOUT_MS)
        provider.shutdown()


class RequestRoots(Sampler):
    """Starts traces only at requests, for a fraction of them.

    The services' background work (polls, heartbeats, readiness, revocations) would start some twenty traces per second
    in an idle mesh and displace the relevant ones from every trace store.
    """

    def __init__(self, ratio: float) -> None:
        self._ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if kind is not SpanKind.SERVER:
            return SamplingResult(Decision.DROP, trace_state=trace_state)
        return self._ratio.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"RequestRoots{{{self._ratio.get_description()}}}"


def carried_context() -> dict[str, str]:
    """The current trace context as W3C headers, to store with a job or to send; empty outside a trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def restored_context(carrier: Mapping[str, str]) -> Context:
    """The context that `carried_context` captured, for spans that continue it in another process."""
    return propagate.extract(dict(carrier))


def current_trace_id() -> str | None:
    """32 hexadecimal digits, or None outside a trace."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
