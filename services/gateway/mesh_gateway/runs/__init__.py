"""One turn, without a protocol: start it, follow its events across cuts, gather or send them."""
