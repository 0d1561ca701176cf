"""The simulator's statistics and log of requests."""

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Outcome = Literal["open", "completed", "client_left", "fault", "refused"]

_MAX_LOGGED_BYTES = 32 * 1024 * 1024
# Under load, keys are run ids. Beyond this number the oldest are evicted.
_MAX_KEYS = 200_000


@dataclass(slots=True)
class RequestRecord:
    """One request to a model. It changes while its outcome is `open`."""

    id: int
    kind: str
    model: str
    key: str | None
    body: bytes
    received_at_s: float
    """Unix time, as is `ended_at_s`."""
    reply: str | None = None
    """The complete text of the answer, even if the client disconnected before its end."""
    tokens: int = 0
    outcome: Outcome = "open"
    fault: str | None = None
    ended_at_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        try:
            body = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            body = self.body.decode("utf-8", "replace")
        return {
            "id": self.id,
            "kind": self.kind,
            "model": self.model,
            "key": self.key,
            "received_at_s": self.received_at_s,
            "ended_at_s": self.ended_at_s,
            "tokens": self.tokens,
            "outcome": self.outcome,
            "fault": self.fault,
            "reply": self.reply,
            "body": body,
        }


class Stats:
    def __init__(self, request_log: int) -> None:
        self._max_logged = request_log
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Resets all counts. Open streams stay counted as open, and their further tokens are counted from zero."""
        self._requests: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._tokens = 0
        self._tokens_by_key: dict[str, int] = {}
        self._requests_by_key: dict[str, int] = {}
        self._log: deque[RequestRecord] = deque()
        self._logged_bytes = 0

    streams_open = 0

    def begin(self, *, kind: str, model: str, key: str | None, body: bytes) -> RequestRecord:
        record = RequestRecord(self._next_id, kind, model, key, body, time.time())
        self._next_id += 1
        self._requests[kind] += 1
        if key is not None:
            _bump(self._requests_by_key, key, 1)
            self._tokens_by_key.setdefault(key, 0)
        self._log_record(record)
        return record

    def sent(self, record: RequestRecord, tokens: int) -> None:
        record.tokens += tokens
        self._tokens += tokens
        if record.key is not None:
            _bump(self._tokens_by_key, record.key, tokens)

    def end(self, record: RequestRecord, outcome: Outcome, fault: str | None = None) -> None:
        """Closes the record; only the first end counts."""
        if record.outcome != "open":
            return
        record.outcome, record.fault, record.ended_at_s = outcome, fault, time.time()
        self._outcomes[outcome] += 1
        if fault:
            self._faults[fault] += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": dict(self._requests),
            "outcomes": dict(self._outcomes),
            "faults": dict(self._faults),
            "streams_open": self.streams_open,
            "tokens": self._tokens,
            "tokens_by_key": self._tokens_by_key,
            "requests_by_key": self._requests_by_key,
            "process_cpu_s": time.process_time(),
        }

    def last_requests(self, limit: int) -> list[dict[str, Any]]:
        """Newest last, at most `limit`."""
        return [record.as_json() for record in list(self._log)[-limit:]] if limit > 0 else []

    def _log_record(self, record: RequestRecord) -> None:
        self._log.append(record)
        self._logged_bytes += len(record.body)
        while len(self._log) > self._max_logged or (self._logged_bytes > _MAX_LOGGED_BYTES and self._log):
            self._logged_bytes -= len(self._log.popleft().body)


def _bump(counts: dict[str, int], key: str, by: int) -> None:
    counts[key] = counts.get(key, 0) + by
    if len(counts) > _MAX_KEYS:
        del counts[next(iter(counts))]
