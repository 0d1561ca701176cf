"""A minimal mesh: one turn through the same packages and the same hops, without any of the product's features.

It is the yardstick of `python -m bench bare` and is part of no release. It identifies users only by their token, stores
no run for another replica to take over, has no limits, rejections, traces or metrics, and waits forever. It does have
the optimizations that helped the mesh most: one stream for the events of all runs, text windows that end together, and
statements sent directly through asyncpg.
"""
