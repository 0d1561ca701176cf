"""The code shared by all services of the mesh. A module belongs here only if two services need it."""
