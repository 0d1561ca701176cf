"""What the agent does for its callers, one file a subject."""
