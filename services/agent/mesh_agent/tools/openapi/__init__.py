"""How operations of an OpenAPI document become tools."""
