"""Fills the table of memories: all users talk about the same subjects, but at different times."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np
import psycopg
from mesh_common.ids import UserId, new_id
from mesh_dev.models import EmbeddingChoice
from mesh_memory.domain import Origin, text_hash
from numpy.typing import NDArray
from pgvector.psycopg import register_vector_async
from simulator.embeddings import embed

Vectors = NDArray[np.float32]

SEED: Final = 20_260_101
TOPICS: Final = tuple(
    f"{aspect} of the {subject}"
    for aspect, subject in product(
        ("history", "price", "colour", "keeper", "repair"),
        ("lighthouse", "garden", "bicycle", "violin", "harbour", "kitchen", "orchard", "telescope"),
    )
)
# Length of the noise added to a topic's vector of length 1: two memories of one topic have a cosine of 0.8.
_SCATTER: Final = 0.5
_TYPES: Final = ("uuid", "uuid", "text", "bytea", "text", "text", "vector")
# Maximum difference between pgvector's single-precision arithmetic and ours.
_ROUNDING: Final = 1e-5


class Row(NamedTuple):
    """Fields are named after the columns."""

    id: UUID
    user_id: UserId
    text: str
    text_hash: bytes
    origin: str
    embedding_model: str
    embedding: Vectors


@dataclass(frozen=True, slots=True)
class Owner:
    """One user with all memories. `vectors` are in the order of `ids`."""

    user_id: UserId
    ids: Sequence[UUID]
    vectors: Vectors

    def share_found(self, query: Vectors, found: Sequence[UUID], limit: int) -> float:
        """The fraction of the `limit` nearest memories that was found. A memory as near as the last of them counts."""
        similarity: dict[UUID, float] = dict(zip(self.ids, (self.vectors @ query).tolist(), strict=True))
        nearest = sorted(similarity.values(), reverse=True)[:limit]
        least = nearest[-1] - _ROUNDING
        return sum(similarity.get(memory_id, -1.0) >= least for memory_id in set(found)) / len(nearest)


def vector_of(text: str, dimensions: int) -> Vectors:
    """The provider's vector for the text."""
    return np.array(embed(text, dimensions), dtype=np.float32)


async def fill(database_url: str, embedding: EmbeddingChoice, *, users: int, each: int) -> Owner:
    """Creates `each` memories for `users` new users, interleaved as over time. Returns one of the users."""
    user_ids = [UserId(new_id()) for _ in range(users)]
    kept: list[Row] = []
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await register_vector_async(connection)
        copy_in = f"COPY memory.memories ({', '.join(Row._fields)}) FROM STDIN (FORMAT BINARY)"
        async with connection.cursor() as cursor, cursor.copy(copy_in.encode()) as copy:
            copy.set_types(_TYPES)
            for row in _rows(user_ids, each, embedding):
                await copy.write_row(row)
                if row.user_id == user_ids[0]:
                    kept.append(row)
        await connection.execute("VACUUM ANALYZE memory.memories")
    return Owner(user_ids[0], [row.id for row in kept], np.array([row.embedding for row in kept]))


def _rows(user_ids: Sequence[UserId], each: int, embedding: EmbeddingChoice) -> Iterator[Row]:
    """One memory of every user, then the next of every user, so that a user's rows are as far apart as in practice."""
    rng = np.random.default_rng(SEED)
    centres = np.array([vector_of(topic, embedding.dimensions) for topic in TOPICS])
    # The service's name for the embedding model and dimension.
    space = f"{embedding.model}/{embedding.dimensions}"
    for number in range(each):
        text = f"What was said for the {number}th time."
        hashed = text_hash(text)
        for user_id, vector in zip(user_ids, _near(rng, centres, len(user_ids)), strict=True):
            yield Row(new_id(), user_id, text, hashed, Origin.WRITTEN.value, space, vector)


def _near(rng: np.random.Generator, centres: Vectors, count: int) -> Vectors:
    """Vectors of length 1, each near a random centre."""
    dimensions = centres.shape[1]
    noise = rng.standard_normal((count, dimensions)) * (_SCATTER / np.sqrt(dimensions))
    vectors = centres[rng.integers(len(centres), size=count)] + noise
    near: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return near
