"""Background work of the agent: delivers the outbox and deletes expired data."""
