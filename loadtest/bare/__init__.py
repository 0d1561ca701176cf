"""The least mesh: one turn by the same packages over the same hops, and nothing of what makes a product of it.

A yardstick for `python -m bench bare`. It knows no users but by their token, keeps no run for another replica to take
over, limits, refuses, traces and counts nothing, and waits for ever. What brought the mesh most it has too: one stream
for the events of all runs, windows of text that end together, statements straight through asyncpg. No release has it.
"""
