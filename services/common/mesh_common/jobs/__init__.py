"""Work that outlives a request: a queue in the service's own schema, and the worker that processes it."""
