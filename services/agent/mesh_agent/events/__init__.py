"""The events of a run while it executes: their log, their storage and their followers."""
