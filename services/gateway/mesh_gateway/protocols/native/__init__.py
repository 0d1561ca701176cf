"""The native HTTP API under /api/v1: routes, bodies and Server-Sent Events."""
