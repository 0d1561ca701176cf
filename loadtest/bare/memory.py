"""`python -m bare.memory`: finds a user's nearest memories with one embedding request and one statement."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp
import orjson
import uvloop
from mesh.memory.v1 import memory_pb2, memory_pb2_grpc
from mesh_common.grpc.client import USER_METADATA
from mesh_common.process.collector import pause_collector

from bare.outside import open_pool, open_session, serve
from bare.schema import RECALL
from bare.settings import BareSettings

# More than are used concurrently.
_CONNECTIONS = 5


@dataclass(frozen=True, slots=True)
class BareMemory(memory_pb2_grpc.MemoryServiceServicer):
    pool: Any
    session: aiohttp.ClientSession
    embeddings_url: str

    async def Recall(self, request: memory_pb2.RecallRequest, context: Any) -> memory_pb2.RecallResponse:  # noqa: N802 - the proto's name
        user_id = UUID(dict(context.invocation_metadata())[USER_METADATA])
        body = orjson.dumps({"model": "sim-embedding", "input": [request.query], "encoding_format": "float"})
        async with self.session.post(self.embeddings_url, data=body) as response:
            vector = orjson.loads(await response.read())["data"][0]["embedding"]
        async with self.pool.acquire() as connection:
            found = await connection.fetch(RECALL, user_id, orjson.dumps(vector).decode())
        return memory_pb2.RecallResponse(
            memories=[memory_pb2.Memory(id=str(one["id"]), text=one["text"]) for one in found]
        )


async def main(settings: BareSettings) -> None:
    async with open_pool(settings, _CONNECTIONS) as pool, open_session() as session:
        embeddings_url = f"{settings.provider_url}/embeddings"
        memory = BareMemory(pool, session, embeddings_url)  # type: ignore[abstract]  # one call of many
        await serve(memory, memory_pb2_grpc.add_MemoryServiceServicer_to_server, settings.memory_address)


if __name__ == "__main__":
    pause_collector()
    uvloop.run(main(BareSettings()))
