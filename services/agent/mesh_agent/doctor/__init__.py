"""`make doctor`: asks a provider seven small questions, and says which quirks its entry in AGENT_MODELS needs.

The questions are asked with the agent's own client, so a quirk that works here works in runs.
"""
