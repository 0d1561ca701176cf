"""The gateway's calls to the other services: they take and give what the API speaks, never protobuf."""
