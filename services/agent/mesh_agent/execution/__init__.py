"""Who runs it: claims, leases and heartbeats, and a run from its claim to its stored end."""
