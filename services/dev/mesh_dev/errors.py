"""Errors of starting the stack. Each has a one-line message that the user can act on."""


class DevError(Exception):
    """The embedded stack cannot continue. The message is the line to print."""


class ChildDiedError(DevError):
    """A child process ended unexpectedly."""


class NotReadyError(DevError):
    """A part did not become ready in time."""


class PortTakenError(DevError):
    """Another program listens on a port that the stack needs."""


class PostgresUnavailableError(DevError):
    """This machine or this data folder cannot run the embedded PostgreSQL."""


class FolderTakenError(DevError):
    """Another stack uses the data folder."""
