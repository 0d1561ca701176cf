"""Facts about the embedded models that need no loading: names, sizes and the prefixes of embedding inputs."""

from typing import Final

CHAT_MODEL: Final = "smollm2-135m"
# One slot holds the agent's window of 2,000 tokens, its prompt, the recalled memories and an answer.
CHAT_CONTEXT_TOKENS: Final = 4096

EMBEDDING_MODEL: Final = "multilingual-e5-small"
EMBEDDING_DIMENSIONS: Final = 384
QUERY_PREFIX: Final = "query: "
PASSAGE_PREFIX: Final = "passage: "
