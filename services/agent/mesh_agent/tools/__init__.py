"""The tools of the agent, one a file."""
