"""The agent's SQL, one file per subject. Every function runs inside the caller's unit of work."""

from sqlalchemy.ext.asyncio import AsyncConnection

# Use cases pass the connection of their unit of work from one store function to the next, under this name only.
type Connection = AsyncConnection
