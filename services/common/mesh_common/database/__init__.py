"""Access of a service to its own schema: pools, the unit of work and its roles, statements, migrations."""
