"""The agent's SQL, one file a subject. Every function runs inside a unit of work of the caller's."""

from sqlalchemy.ext.asyncio import AsyncConnection

# What a unit of work hands from one store function to the next; use cases know it by this name alone.
type Connection = AsyncConnection
