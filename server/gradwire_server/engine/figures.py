"""What a worker counts of its own work, for whoever watches it.

Counting is done at every turn, so it is kept to a few additions; everything else is done when
somebody asks.
"""

from bisect import bisect_left
from collections import Counter
from copy import deepcopy
from time import perf_counter, time_ns
from typing import Any

from gradwire_server.buckets import COUNTERS, PHASES, SECONDS


class Times:
    """How long something took, many times over.

    Attributes:
        counts: How often it took no longer than the bound of `SECONDS` with the same index, but
            longer than the one before; last, how often it took longer than all.
        total_seconds: How long it took in all.
    """

    __slots__ = ("counts", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Counts one more time."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total_seconds += seconds


class CommandTimes:
    """What the time of one kind of command goes to.

    Attributes:
        queue: It waits for its turn.
        decode: Its message is parsed.
        execute: It is run.
        encode: Its answer is serialised.
    """

    __slots__ = PHASES

    def __init__(self) -> None:
        self.queue = Times()
        self.decode = Times()
        self.execute = Times()
        self.encode = Times()


class Timing:
    """Where the time of one call goes.

    Attributes:
        kind: What the call does in this turn, such as ``Forward`` or ``run_program``.
        trace: The trace context of the call; empty if it is not traced.
        failure: Why it failed in this turn; empty if it did not.
    """

    __slots__ = (
        *("kind", "trace", "failure", "_arrived_at", "_ready_at", "_begun_at"),
        *("_decode", "_encode", "_waited", "_executed", "_decoded", "_encoded"),
    )

    def __init__(self, kind: str, trace: str = "") -> None:
        self.kind = kind
        self.trace = trace
        self.failure = ""
        self._arrived_at = self._ready_at = self._begun_at = perf_counter()
        self._decode = self._encode = 0.0
        self._waited = self._executed = self._decoded = self._encoded = 0.0

    def begin_turn(self) -> None:
        """Its turn begins."""
        self._begun_at = perf_counter()

    def end_turn(self, figures: "Figures") -> None:
        """Its turn ends, and is counted."""
        now = perf_counter()
        waited = self._begun_at - self._ready_at
        executed = now - self._begun_at - self._decode - self._encode
        times = figures.times(self.kind)
        times.queue.add(waited)
        times.execute.add(executed)
        if self._decode:
            times.decode.add(self._decode)
        if self._encode:
            times.encode.add(self._encode)
        if self.failure:
            figures.counters["command_failures"][self.failure] += 1
            self.failure = ""
        if self.trace:
            self._waited += waited
            self._executed += executed
            self._decoded += self._decode
            self._encoded += self._encode
        self._decode = self._encode = 0.0
        self._ready_at = now

    def decoded(self, since: float) -> None:
        """What came since then was parsing; `perf_counter` tells the time."""
        self._decode += perf_counter() - since

    def encoded(self, since: float) -> None:
        """What came since then was serialising."""
        self._encode += perf_counter() - since

    def summary(self) -> str:
        """Returns where the time went until now, if the call is traced: nanoseconds of each phase.

        The first number is when the call arrived, in nanoseconds since 1970.
        """
        if not self.trace:
            return ""
        now = perf_counter()
        waited = self._waited + self._begun_at - self._ready_at
        executed = self._executed + now - self._begun_at - self._decode - self._encode
        phases = (waited, self._decoded + self._decode, executed, self._encoded + self._encode)
        arrived_ns = time_ns() - round((now - self._arrived_at) * 1e9)
        return " ".join(str(part) for part in (arrived_ns, *(round(p * 1e9) for p in phases)))


class Figures:
    """What a worker has done since it started.

    Attributes:
        counters: What is counted, by the names of `COUNTERS`. Training steps of sessions that have
            not ended are counted by these.
    """

    def __init__(self) -> None:
        self.counters: dict[str, Counter[str]] = {name: Counter() for name in COUNTERS}
        self._times: dict[str, CommandTimes] = {}

    def times(self, kind: str) -> CommandTimes:
        """Returns the times of a kind of command, to be added to."""
        found = self._times.get(kind)
        if found is None:
            found = self._times[kind] = CommandTimes()
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns the figures in JSON's terms; whoever gets them may add to the counters."""
        commands = {}
        for kind, times in self._times.items():
            each: dict[str, Times] = {phase: getattr(times, phase) for phase in PHASES}
            commands[kind] = {
                phase: {"counts": times.counts, "seconds": times.total_seconds}
                for phase, times in each.items()
            }
        return {"commands": commands, "counters": deepcopy(self.counters)}
