"""What is said about a run while it runs: its events, their log, their storage and their followers."""
