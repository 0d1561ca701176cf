"""How does the agent read the public web for a model without reaching anything that is not public?"""
