"""What stands in HTTP bodies: the only place where pydantic describes the API."""
