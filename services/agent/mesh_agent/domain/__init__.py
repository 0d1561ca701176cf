"""The agent's own words: threads, runs, tools and interrupts, and the rules about them. Standard library only."""
