"""Who runs it: claims, leases and heartbeats, and each run from its claim to its stored end.

The states of a run. Those in capitals are stored (`domain.RunStatus`); the others exist on the owning replica only::

    start_run ──▶ PENDING ──claim──▶ RUNNING ─────────────────────────────────────────▶ SUCCEEDED
                     │  ▲               │ attempt n: begun ▶ started ▶ ending ▶ ended   FAILED
                     │  │               │                                               CANCELLED
                     │  └──release──────┤ drain: another replica claims it
                     │                  ├ lease expired: another replica claims attempt n + 1
                     └──cancel──────────┴ thread deleted: nothing is stored but the bill

One object answers for each step. The `Executor` decides which runs execute on this replica. A `RunTask` is one of them,
from its claim to its stored end, and knows why it may be stopped. Its `Recorder` keeps what the attempt said and cost.
`run_attempt` is the story of the attempt. `Heartbeat` renews the leases of all run tasks, and `EndRun` stores an end.
"""
