from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from mesh_dev import parts
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode
from support.net import free_port


@dataclass(frozen=True)
class Receiver:
    endpoint: str
    client: httpx.AsyncClient


@pytest.fixture(scope="module")
async def receiver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Receiver]:
    otlp_port, http_port = free_port(), free_port()
    part = parts.otlp_receiver(tmp_path_factory.mktemp("traces"), otlp_port, http_port)
    await part.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}") as client:
        yield Receiver(f"http://127.0.0.1:{otlp_port}", client)
    await part.stop()


def record_turn(endpoint: str, run_id: str) -> str:
    """Exports a root span and a failed child through the real SDK. Returns the trace's id."""
    provider = TracerProvider(resource=Resource.create({"service.name": "agent"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("run", attributes={"mesh.run_id": run_id, "tokens": 7}) as root:
        with tracer.start_as_current_span("chat") as child:
            child.set_status(Status(StatusCode.ERROR, "cut off"))
        trace_id = f"{root.get_span_context().trace_id:032x}"
    provider.shutdown()
    return trace_id


async def test_exported_spans_are_found_by_trace_id(receiver: Receiver) -> None:
    trace_id = record_turn(receiver.endpoint, "run-1")

    trace = (await receiver.client.get(f"/traces/{trace_id}")).json()

    child, root = trace["spans"]
    assert (root["service"], root["name"], root["parent_id"], root["status"]) == ("agent", "run", None, "unset")
    assert root["attributes"] == {"mesh.run_id": "run-1", "tokens": 7}
    assert (child["name"], child["parent_id"], child["status"]) == ("chat", root["span_id"], "error")
    assert child["status_message"] == "cut off"
    assert trace["dropped_spans"] == 0


async def test_exported_spans_are_found_by_run_id(receiver: Receiver) -> None:
    trace_id = record_turn(receiver.endpoint, "run-2")

    found = (await receiver.client.get("/traces", params={"run_id": "run-2"})).json()

    assert [trace["trace_id"] for trace in found["items"]] == [trace_id]


async def test_unknown_trace_is_404_and_unknown_run_an_empty_list(receiver: Receiver) -> None:
    trace = await receiver.client.get("/traces/00000000000000000000000000000000")
    run = await receiver.client.get("/traces", params={"run_id": "nobody"})

    assert trace.status_code == 404
    assert run.json() == {"items": []}
