"""How often a run tells something: no more than 10 events a second, whatever they are."""

import time
from collections import deque

EVENTS_PER_SECOND = 5
"""Beside these, up to 5 come at the end of a run, at once, which makes 10."""
MIN_INTERVAL_SECONDS = 1 / EVENTS_PER_SECOND


class Pace:
    """Says what may be told now.

    Args:
        interval_seconds: The least time between two reports of steps.
    """

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = max(interval_seconds, MIN_INTERVAL_SECONDS)
        self._told: deque[tuple[float, str]] = deque(maxlen=EVENTS_PER_SECOND)
        self._last_report = time.monotonic()

    def told(self, kind: str = "") -> None:
        """Counts an event; of a kind that comes again and again, if it is named."""
        now = time.monotonic()
        self._told.append((now, kind))
        if kind == "progress":
            self._last_report = now

    def has_room(self) -> bool:
        """Whether an event may be told now."""
        return len(self._told) < EVENTS_PER_SECOND or time.monotonic() - self._told[0][0] >= 1.0

    def report_is_due(self) -> bool:
        """Whether it is time to tell of steps; the more else there is to tell, the seldomer."""
        passed = time.monotonic() - self._last_report
        if passed < self._interval_seconds:
            return False
        begin = self._last_report + passed - 1.0
        others = {kind for when, kind in self._told if when > begin} - {"", "progress"}
        return passed >= self._interval_seconds * (1 + len(others)) and self.has_room()
