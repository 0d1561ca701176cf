"""Which assistants there are, and what a run of each of them may do."""
