"""The SQL of memory."""

from mesh_memory.store.memory_store import PostgresMemoryStore, PostgresUnitOfWork
from mesh_memory.store.queued_turns import KEEP_TURN, turn_of, turn_payload
from mesh_memory.store.searching import SEARCH

__all__ = ["KEEP_TURN", "SEARCH", "PostgresMemoryStore", "PostgresUnitOfWork", "turn_of", "turn_payload"]
