"""What the agent does beside requests and runs: delivers its outbox and deletes what has expired."""
