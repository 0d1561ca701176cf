"""An OpenAI-compatible model server with minimal CPU cost and configurable faults.

For tests and load: deterministic answers, exact counts of the tokens sent, faults by rule. It imports nothing from the
mesh, so that it is an independent peer. README.md is the manual.
"""

from simulator.words import reply_text

__all__ = ["reply_text"]
