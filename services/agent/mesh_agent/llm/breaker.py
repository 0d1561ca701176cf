"""A circuit breaker per model: runs skip a model that keeps failing for a while."""

from mesh_common.clock import Clock

# Five consecutive failures are not a coincidence; a provider's restart takes 15 s.
_THRESHOLD = 5
_OPEN_S = 15.0
# A wrong key or name lasts until an operator corrects it.
_MISCONFIGURED_S = 60.0


class Breaker:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._open_until_s: dict[str, float] = {}

    def skips(self, model: str) -> bool:
        """Whether `is_open` would skip the model now; has no side effect."""
        until_s = self._open_until_s.get(model)
        return until_s is not None and self._clock.monotonic_s() < until_s

    def is_open(self, model: str) -> bool:
        """Whether to skip the model. After the pause, one call at a time tries it."""
        until_s = self._open_until_s.get(model)
        if until_s is None:
            return False
        now_s = self._clock.monotonic_s()
        if now_s < until_s:
            return True
        # Half open: this caller tries the model, and later callers skip it until the result is known.
        self._open_until_s[model] = now_s + _OPEN_S
        return False

    def succeeded(self, model: str) -> None:
        self._failures.pop(model, None)
        self._open_until_s.pop(model, None)

    def misconfigured(self, model: str) -> None:
        """Opens at once: every call fails until an operator acts."""
        self._failures[model] = _THRESHOLD
        self._open_until_s[model] = self._clock.monotonic_s() + _MISCONFIGURED_S

    def failed(self, model: str) -> None:
        self._failures[model] = self._failures.get(model, 0) + 1
        if self._failures[model] >= _THRESHOLD:
            self._open_until_s[model] = self._clock.monotonic_s() + _OPEN_S
