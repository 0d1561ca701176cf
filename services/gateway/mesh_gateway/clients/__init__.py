"""The gateway's calls to the other services. They take and return dataclasses, never protobuf or HTTP schemas."""
