"""How a graph of somebody's package is found and run: with the durability of the built-in one."""
