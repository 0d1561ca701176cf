"""Real processes, seeded faults, and a checker that reads what the clients saw (README.md)."""
