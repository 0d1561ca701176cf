"""How facts are extracted from a turn. The only place that knows mem0."""
