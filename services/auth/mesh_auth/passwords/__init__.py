"""The rules for passwords, and hashing them without blocking the event loop."""
