"""Calls between services: the server, the client, the allowed edges, service tokens, TLS and errors on the wire."""
