"""One-time setup of a mesh that needs no running service: keys, passwords, roles and schemas."""
