"""An OpenAI-compatible model server that costs next to nothing and misbehaves on request.

For tests and load: deterministic answers, exact counts of the tokens sent, faults by rule. It imports
nothing of the mesh, so that it can be trusted as the other side of the wire. README.md has the manual.
"""

from simulator.words import reply_text

__all__ = ["reply_text"]
