"""Execution of runs: claims, leases and heartbeats, and each run from its claim to its stored end.

The states of a run. Those in capitals are stored (`domain.RunStatus`); the others exist only on the owning replica::

    start_run ──▶ PENDING ──claim──▶ RUNNING ─────────────────────────────────────────▶ SUCCEEDED
                     │  ▲               │ attempt n: begun ▶ started ▶ ending ▶ ended   FAILED
                     │  │               │                                               CANCELLED
                     │  │               │                                               INTERRUPTED
                     │  └──release──────┤ drain: another replica claims it
                     │                  ├ lease expired: a replica claims attempt n + 1
                     └──cancel──────────┴ thread deleted: only the usage is stored

A resume of an INTERRUPTED run starts a new run of the same execution.

Each step has one object. The `Executor` decides which runs execute on this replica. A `RunTask` is one of them, from
its claim to its stored end, and records why it was stopped. Its `Recorder` holds the attempt's answer, events and cost.
`run_attempt` executes the attempt. `Heartbeat` renews the leases of all run tasks, and `EndRun` stores the end.
`WaitingFollowers` wakes those who follow a run that no replica executes yet.
"""
