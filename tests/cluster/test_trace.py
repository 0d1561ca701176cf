"""One trace shows a turn across all five services, from the collector in the cluster."""

import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chaos.client import PASSWORD
from mesh_agent.execution.ending import is_sampled
from mesh_agent.settings import AgentSettings
from mesh_common.grpc.edges import SERVICES
from mesh_common.ids import RunId, new_id
from mesh_dev.mesh_client import MeshClient

from cluster.kubectl import eventually
from cluster.release import Release

_JUDGED: Final[float] = AgentSettings.model_fields["eval_sample_ratio"].default


@dataclass(frozen=True, slots=True)
class Span:
    service: str
    span_id: str
    parent_id: str
    name: str


async def test_one_trace_tells_a_turn_over_all_five_services(mesh: Release) -> None:
    trace_id = await _trace_of_a_judged_turn(await mesh.url())

    async def complete_trace() -> list[Span] | None:
        spans = _spans_of(await _collected(mesh), trace_id)
        names = {span.name for span in spans}
        return spans if {"eval.judge", "memory.keep_turn", "outbox.record_usage"} <= names else None

    spans = await eventually(f"the whole trace {trace_id}", complete_trace, within_s=60, again_s=2)
    assert {span.service for span in spans} == set(SERVICES)
    ids = {span.span_id for span in spans}
    assert [span.service for span in spans if span.parent_id not in ids] == ["gateway"]


async def _trace_of_a_judged_turn(url: str) -> str:
    """Only the trace of a judged turn covers all services; the others end in memory."""
    async with MeshClient(url) as client:
        email = f"{new_id().hex}@example.com"
        (await client.register(email, PASSWORD)).raise_for_status()
        (await client.login(email, PASSWORD)).raise_for_status()
        while True:
            trace_id = secrets.token_hex(16)
            traceparent = f"00-{trace_id}-{secrets.token_hex(8)}-01"
            answer = await client.post("/chatbot/chat", {"message": "I live in Turin."}, traceparent=traceparent)
            answer.raise_for_status()
            if is_sampled(RunId(UUID(answer.json()["run_id"])), _JUDGED):
                return trace_id


async def _collected(mesh: Release) -> str:
    return await mesh.kubectl.run("logs", "deployment/otel-collector", "--tail=-1")


def _spans_of(log: str, trace_id: str) -> list[Span]:
    """Parses the detailed output of the collector's debug exporter."""
    spans, service, fields = [], "", {}
    for line in log.splitlines():
        name, _, value = line.strip().partition(":")
        value = value.strip()
        if name == "-> service.name":
            service = value.removeprefix("Str(").removesuffix(")")
        elif name.rstrip() in {"Trace ID", "Parent ID", "ID", "Name"}:
            fields[name.rstrip()] = value
        if name.rstrip() == "Name" and fields.get("Trace ID") == trace_id:
            spans.append(Span(service, fields["ID"], fields["Parent ID"], value))
    return spans
