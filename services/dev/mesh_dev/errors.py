"""What can go wrong when the stack is started, each as one line a person can act on."""


class DevError(Exception):
    """The embedded stack cannot go on; the message is the one line to print."""


class ChildDiedError(DevError):
    """A child process ended without being asked to."""


class NotReadyError(DevError):
    """A part did not become ready in its time."""


class PortTakenError(DevError):
    """Something else listens on a port that the stack needs."""


class PostgresUnavailableError(DevError):
    """This machine or this data folder cannot run the embedded PostgreSQL."""


class FolderTakenError(DevError):
    """Another stack uses the data folder."""
