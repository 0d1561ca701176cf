"""Measures how long finding a user's nearest memories in a full table takes, without the embedding, and its accuracy.

Recall is called as the agent calls it. The service's own histogram gives the embedding time within each call.
"""

import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import httpx
from mesh.memory.v1 import memory_pb2, memory_pb2_grpc
from mesh_common.grpc.client import ServiceCalls, open_channel
from mesh_common.grpc.service_tokens import ServiceTokenSigner
from mesh_common.jwt import SigningKey
from mesh_common.subject import Subject
from mesh_dev.wait import LOOPBACK
from prometheus_client.parser import text_string_to_metric_families

from bench.memories import TOPICS, Owner, vector_of
from bench.stack import Mesh
from bench.statistics import percentiles

LIMIT: Final = 10
# Calls that warm up pools, prepared statements and caches.
_WARM_UP: Final = 20
_TIMEOUT_S: Final = 5.0
_EMBEDDING_SUM: Final = "mesh_memory_embedding_duration_seconds_sum"


@dataclass(frozen=True, slots=True)
class Recall:
    took_ms: float
    """Time that the caller observed, without the embedding."""
    embedding_ms: float
    share_found: float


async def measure_recall(mesh: Mesh, owner: Owner, calls: int) -> dict[str, float]:
    """Figures of `calls` sequential calls, each with a different message."""
    async with (
        open_channel(f"ipv4:{LOOPBACK}:{mesh.stack.environments.ports_of('memory').api}") as channel,
        httpx.AsyncClient(trust_env=False) as scraper,
    ):
        recaller = _Recaller(mesh, memory_pb2_grpc.MemoryServiceStub(channel), scraper, owner)
        for number in range(_WARM_UP):
            await recaller.recall(f"warm {number}")
        recalls = [await recaller.recall(_message(number)) for number in range(calls)]
    return {
        **percentiles("recall_ms", [recall.took_ms for recall in recalls]),
        **percentiles("embedding_ms", [recall.embedding_ms for recall in recalls]),
        "recall_at_10": sum(recall.share_found for recall in recalls) / calls,
    }


class _Recaller:
    def __init__(self, mesh: Mesh, stub: Any, scraper: httpx.AsyncClient, owner: Owner) -> None:
        agent = SigningKey.from_pem(mesh.stack.environments.secrets.service_keys["agent"])
        self._calls = ServiceCalls("memory", ServiceTokenSigner("agent", agent))
        self._metrics_url = mesh.stack.metrics_urls["memory"]
        self._dimensions = mesh.stack.environments.models.embedding.dimensions
        self._stub = stub
        self._scraper = scraper
        self._owner = owner

    async def recall(self, message: str) -> Recall:
        request = memory_pb2.RecallRequest(query=message, limit=LIMIT)
        embedded_s, began_s = await self._embedding_s(), time.perf_counter()
        subject = Subject.personal(self._owner.user_id)
        answer = await self._calls.unary(self._stub.Recall, request, timeout_s=_TIMEOUT_S, subject=subject)
        took_s = time.perf_counter() - began_s
        embedding_s = await self._embedding_s() - embedded_s
        found = [UUID(memory.id) for memory in answer.memories]
        share = self._owner.share_found(vector_of(message, self._dimensions), found, LIMIT)
        return Recall((took_s - embedding_s) * 1_000, embedding_s * 1_000, share)

    async def _embedding_s(self) -> float:
        """Total embedding time of the service so far."""
        text = (await self._scraper.get(self._metrics_url)).raise_for_status().text
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(sample.value for sample in samples if sample.name == _EMBEDDING_SUM)


def _message(number: int) -> str:
    return f"Do you remember the {TOPICS[number % len(TOPICS)]}, of which I told you in {1_900 + number}?"
