"""The run plan: what a run executes with, how it is resolved when the run starts, and how it is stored.

A plan is resolved once, from the assistant's settings and the user's entitlements, and every attempt of the run uses
it: a replica with other settings continues the run as it began. Entitlements are checked again at each attempt and can
only narrow the plan. Secrets and values that differ between replicas (keys, addresses, prices) are not in it: it names
models and tools, and the executing replica looks them up in its registries. See docs/adr/0022.
"""
