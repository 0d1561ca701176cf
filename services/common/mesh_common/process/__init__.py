"""The life of a process: its settings, signals, logs, metrics, traces, start and stop."""
