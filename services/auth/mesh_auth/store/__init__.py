"""The SQL of auth: accounts and sessions, usage, and the order of revocations."""
