"""Only requests begin traces: traces of background work would drown those that matter."""

import pytest
from mesh_common.process.telemetry import RequestRoots
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import SpanKind, Tracer, set_span_in_context


@pytest.fixture
def tracer() -> Tracer:
    return TracerProvider(sampler=ParentBased(RequestRoots(1.0)), shutdown_on_exit=False).get_tracer("test")


def test_a_request_begins_a_trace_and_what_it_causes_belongs_to_it(tracer: Tracer) -> None:
    request = tracer.start_span("request", kind=SpanKind.SERVER)

    statement = tracer.start_span("SELECT", context=set_span_in_context(request), kind=SpanKind.CLIENT)

    assert request.is_recording()
    assert statement.is_recording()


@pytest.mark.parametrize("kind", [SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.CONSUMER])
def test_a_poll_begins_none(tracer: Tracer, kind: SpanKind) -> None:
    poll = tracer.start_span("poll", kind=kind)

    caused = tracer.start_span("answer", context=set_span_in_context(poll), kind=SpanKind.SERVER)

    assert not poll.is_recording()
    assert not caused.is_recording()


def test_the_ratio_holds_for_requests() -> None:
    tracer = TracerProvider(sampler=ParentBased(RequestRoots(0.0)), shutdown_on_exit=False).get_tracer("test")

    assert not tracer.start_span("request", kind=SpanKind.SERVER).is_recording()
