"""The gateway's calls to the other services: they take and give dataclasses, never protobuf or a protocol's schemas."""
