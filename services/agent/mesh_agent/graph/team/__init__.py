"""How several agents answer together: a supervisor with members, or agents that pass a conversation on.

Everything happens in one node of a graph like those in code. What models and tools answered is recorded, so that an
attempt that takes over, or a run that resumes, repeats the way up to where it ended without asking anybody again.
"""
