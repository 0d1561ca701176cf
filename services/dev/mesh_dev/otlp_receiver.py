"""A small OTLP receiver: receives traces by gRPC, keeps the latest in memory and serves them as JSON over HTTP.

`python -m mesh_dev.otlp_receiver --otlp-port 8014 --http-port 8015`. It receives traces only: in `make dev`, metrics
are scraped and logs are files.
"""

import argparse
import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Final

import grpc
import uvicorn
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mesh_dev.errors import DevError
from mesh_dev.trace_store import TraceStore
from mesh_dev.trace_tree import AttributeValue, Span, Status
from mesh_dev.wait import LOOPBACK

# One export of the SDK has up to 512 spans, and prompts in attributes make some of them large.
MAX_MESSAGE_BYTES: Final = 32_000_000
STATUS: Final[dict[int, Status]] = {
    trace_pb2.Status.STATUS_CODE_OK: "ok",
    trace_pb2.Status.STATUS_CODE_ERROR: "error",
}


class TraceReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """`opentelemetry.proto.collector.trace.v1.TraceService`, writing to a store."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def Export(  # noqa: N802 - the name in the proto
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        _context: object,
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self._store.add(spans_of(request.resource_spans))
        return trace_service_pb2.ExportTraceServiceResponse()


def create_app(store: TraceStore) -> Starlette:
    """`GET /traces/{trace_id}` and `GET /traces?run_id=…` return complete traces as JSON; also `GET /health`."""

    async def get_trace(request: Request) -> Response:
        trace = store.get(request.path_params["trace_id"])
        if trace is None:
            return JSONResponse({"detail": "trace not found"}, status_code=404)
        return JSONResponse(asdict(trace))

    async def find_traces(request: Request) -> Response:
        run_id = request.query_params.get("run_id")
        if not run_id:
            return JSONResponse({"detail": "run_id is missing"}, status_code=422)
        return JSONResponse({"items": [asdict(trace) for trace in store.of_run(run_id)]})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[Route("/traces/{trace_id}", get_trace), Route("/traces", find_traces), Route("/health", health)]
    )


def spans_of(resource_spans: Iterable[trace_pb2.ResourceSpans]) -> Iterator[Span]:
    """The spans of an export, each with the name of its service."""
    for resource in resource_spans:
        service = str(_attributes(resource.resource.attributes).get("service.name", "unknown"))
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(span, service)


def _span(span: trace_pb2.Span, service: str) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        service=service,
        name=span.name,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=STATUS.get(span.status.code, "unset"),
        status_message=span.status.message,
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, AttributeValue]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> AttributeValue:
    match value.WhichOneof("value"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "string_value":
            return value.string_value
        case _:
            return str(value).strip()


async def serve(otlp_port: int, http_port: int) -> None:
    """Serves both ports until SIGTERM or SIGINT, which uvicorn handles."""
    store = TraceStore()
    receiver = grpc.aio.server(
        options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
    )
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(TraceReceiver(store), receiver)  # type: ignore[no-untyped-call]  # generated
    _listen(receiver, otlp_port)
    await receiver.start()
    config = uvicorn.Config(create_app(store), host=LOOPBACK, port=http_port, access_log=False, log_level="warning")
    try:
        await uvicorn.Server(config).serve()
    finally:
        await receiver.stop(grace=None)


def _listen(receiver: grpc.aio.Server, port: int) -> None:
    try:
        receiver.add_insecure_port(f"{LOOPBACK}:{port}")
    except RuntimeError as error:
        raise DevError(f"cannot listen on port {port}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description="receive and show traces")
    parser.add_argument("--otlp-port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.otlp_port, arguments.http_port))


if __name__ == "__main__":
    main()
