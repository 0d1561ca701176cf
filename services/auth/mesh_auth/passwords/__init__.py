"""What a password must be, and how it is hashed without stopping the event loop."""
