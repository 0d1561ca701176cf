"""Who is calling: access tokens, the keys that verify them, revocations, tickets."""
