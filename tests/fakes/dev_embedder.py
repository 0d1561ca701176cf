"""An embedder that needs no model: a text's vector points along the axis of its length."""

import threading
from collections.abc import Sequence

import numpy as np
from mesh_dev.embedding_server import Vectors
from mesh_dev.local_models import EMBEDDING_DIMENSIONS


class FakeEmbedder:
    """Records its calls as (text, is_query). After `hold`, each call waits in its thread for `go_on`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.has_begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def hold(self) -> None:
        self.go_on.clear()

    def encode(self, texts: Sequence[str], is_query: bool) -> Vectors:  # noqa: FBT001 - the port's signature
        self.asked += [(text, is_query) for text in texts]
        self.has_begun.set()
        assert self.go_on.wait(timeout=30)
        vectors = np.zeros((len(texts), EMBEDDING_DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row, len(text)] = 1.0
        return vectors

    def token_count(self, text: str, is_query: bool) -> int:  # noqa: ARG002, FBT001 - the port's signature
        return len(text.split())
