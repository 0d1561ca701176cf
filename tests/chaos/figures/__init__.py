"""Figures of durable runs under one kind of trouble each: `python -m chaos.figures <name>`."""
