"""How a tool of somebody's package is found and called."""
