"""One turn, independent of the protocol: start a run, follow its events across cuts, collect or send them."""
