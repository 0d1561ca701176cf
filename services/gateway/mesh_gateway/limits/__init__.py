"""How much a caller may ask for: rates across all replicas, streams at once on this one."""
