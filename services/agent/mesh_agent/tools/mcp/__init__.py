"""Tools of MCP servers, by Streamable HTTP. Imported only if there are servers: the client takes 50 MiB."""
