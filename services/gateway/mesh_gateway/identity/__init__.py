"""Identifies the caller: access tokens, the keys that verify them, revocations, tickets."""
