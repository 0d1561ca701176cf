"""The HTTP bodies of the API; no other package describes it with pydantic."""
