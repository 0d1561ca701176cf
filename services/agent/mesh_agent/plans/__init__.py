"""What a run executes with: the run plan, how it is resolved when the run starts, and how it is stored.

A plan is resolved once, from the assistant's settings and the user's entitlements, and every attempt of the run uses
it: a replica with other settings continues the run as it began. Entitlements are checked again at each attempt and can
only take away from the plan. What is secret or differs between replicas (keys, addresses, prices) is not in it: models
and tools are named, and looked up in the registries of the replica that executes them. See docs/adr/0022.
"""
