"""The agent's use cases, one file per subject."""
