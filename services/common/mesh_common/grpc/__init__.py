"""How services call each other: the one server, the one client, who may call what, and errors on the wire."""
