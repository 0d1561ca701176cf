"""Records the spans of the code under test."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@dataclass(frozen=True)
class RecordedSpans:
    exporter: InMemorySpanExporter

    def all(self) -> tuple[ReadableSpan, ...]:
        """Ended spans, in the order in which they ended."""
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        """The only span with this name."""
        (span,) = [span for span in self.all() if span.name == name]
        return span


@pytest.fixture
def spans() -> Iterator[RecordedSpans]:
    """The spans recorded during the test. All are sampled; the provider stays for the rest of the session."""
    exporter = InMemorySpanExporter()
    _provider().add_span_processor(SimpleSpanProcessor(exporter))
    yield RecordedSpans(exporter)
    # Later spans are dropped.
    exporter.shutdown()


def _provider() -> TracerProvider:
    # OpenTelemetry allows setting the provider only once per process.
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    return provider
