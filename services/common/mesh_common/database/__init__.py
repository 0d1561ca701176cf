"""How a service reaches its own schema: pools, the unit of work and its roles, statements, migrations."""
