"""Measurements of durable runs under one kind of fault each: `python -m chaos.figures <name>`."""
