"""Real processes, seeded faults, and a checker of what the clients saw (README.md)."""
