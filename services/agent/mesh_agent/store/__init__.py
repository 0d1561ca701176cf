"""The agent's SQL, one file per subject. Every function runs inside the caller's unit of work."""

from mesh_common.database import postgres
from mesh_common.database.statements import AnyConnection

# Use cases pass the connection of their unit of work from one store function to the next, under this name only.
type Connection = AnyConnection
type Database = postgres.Database[Connection]
