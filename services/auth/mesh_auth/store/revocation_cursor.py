"""The cursor over revocations. No order of commits can make a reader miss one.

A number from a sequence is drawn before its transaction commits, so a reader can pass number 7 while 6 is not
visible yet, and never return to it. A time has the same fault. Waiting until no older transaction runs (`xid < xmin`)
is safe, but then one long transaction anywhere in the cluster, such as a migration of another service, delays every
revocation beyond the promised 5 s. A lock around all logouts makes them wait for the slowest.

So the cursor *is* the snapshot of the last read: rows that `pg_visible_in_snapshot` does not find in it became visible
since. Nothing waits and nothing is missed.
https://www.postgresql.org/docs/16/functions-info.html#FUNCTIONS-PG-SNAPSHOT
"""

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from mesh_common.errors import InvalidInput

# Real transaction ids begin at 3, so nothing is in this snapshot.
_NOTHING_SEEN: Final = "1:1:"
_NO_ID: Final = UUID(int=0)
_XID: Final = r"\d{1,19}"
_SNAPSHOT: Final = rf"{_XID}:{_XID}:(?:{_XID}(?:,{_XID}){{0,2000}})?"
_BETWEEN_PAGES: Final = rf";(?P<target>{_SNAPSHOT});(?P<xid>{_XID});(?P<id>[0-9a-f-]{{36}})"
_CURSOR: Final = re.compile(rf"(?P<seen>{_SNAPSHOT})(?:{_BETWEEN_PAGES})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RevocationCursor:
    """Everything in snapshot `seen` was returned.

    Between pages, so was everything in `target` up to (`after_xid`, `after_id`).
    """

    seen: str = _NOTHING_SEEN
    target: str | None = None
    after_xid: str = "0"
    after_id: UUID = _NO_ID

    @classmethod
    def parse(cls, text: str | None) -> "RevocationCursor":
        """Parses the `str` of a cursor. Raises InvalidInput for anything else."""
        if text is None:
            return cls()
        match = _CURSOR.fullmatch(text)
        if match is None or not _is_snapshot(match["seen"]) or not _is_snapshot(match["target"] or _NOTHING_SEEN):
            raise _not_ours()
        if match["target"] is None:
            return cls(match["seen"])
        try:
            return cls(match["seen"], match["target"], match["xid"], UUID(match["id"]))
        except ValueError:
            raise _not_ours() from None

    def within(self, current: str) -> "RevocationCursor":
        """The cursor for the next read, given the database's `current` snapshot.

        Transaction ids only grow. A cursor ahead of them belongs to another database, from before a restore, and says
        nothing about this one.
        """
        at = RevocationCursor() if _xmax(self.target or self.seen) > _xmax(current) else self
        return RevocationCursor(at.seen, at.target or current, at.after_xid, at.after_id)

    def after(self, xid: str, session_id: UUID) -> "RevocationCursor":
        return RevocationCursor(self.seen, self.target, xid, session_id)

    def finished(self) -> "RevocationCursor":
        return RevocationCursor(self.target or self.seen)

    def __str__(self) -> str:
        return self.seen if self.target is None else f"{self.seen};{self.target};{self.after_xid};{self.after_id}"


def _is_snapshot(snapshot: str) -> bool:
    """Whether PostgreSQL accepts it: xmin:xmax:xids, the xids between the two and ascending."""
    low, high, between = snapshot.split(":")
    xids = [int(xid) for xid in between.split(",") if xid]
    return 0 < int(low) <= int(high) and xids == sorted(xids) and all(int(low) <= xid < int(high) for xid in xids)


def _xmax(snapshot: str) -> int:
    return int(snapshot.split(":")[1])


def _not_ours() -> InvalidInput:
    return InvalidInput.of_field("cursor", "is not the next_cursor of an earlier response")
