"""A training step that is watched, compiled when it came often enough, and switched over."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import structlog
import torch

from gradwire_server.engine.compiling.builds import BuildError, Compiled
from gradwire_server.engine.compiling.capture import Captured, Capturing
from gradwire_server.engine.compiling.comparing import pairs, require_close, require_same
from gradwire_server.engine.compiling.graph import UnrecordableError
from gradwire_server.engine.compiling.recording import Rate, Recording, traceable
from gradwire_server.engine.compiling.watched import Snapshot, Undo, Watched, same_elements
from gradwire_server.engine.random_state import RandomState

log = structlog.get_logger(__name__)

RECORD_AFTER = 32
"""How often a step is taken before it is worth recording."""
RECORD_EARLY_AFTER = 2
"""The same if it is known that it will be taken so often. The first one makes what an optimizer
keeps."""
NUM_TIMED = 3
"""How often a compiled step is timed, to take it only if it is faster than torch. The first time
is the slowest; of the others, the fastest counts."""
NUM_COMPARED = 3
"""How often a compiled step must be slower, `RECORD_AFTER` steps apart, to be left to torch:
another program may have had the processor."""
MAX_VARIANTS = 8
"""For how many sizes of batches, modes and the like one step is compiled; others stay eager."""
MAX_KINDS = 64
"""For how many kinds of inputs it is known what to do, as long as nothing else changes."""
MIN_HITS = 4
"""How many steps must be taken, at the least, for each time that it is to be found out what has
changed: a loop that changes something in every step is left to torch."""
FREE_LOOKS = 32
"""How often that is found out anyway."""
MAX_EXACT_BYTES = 32 * 1024 * 1024
"""A step with more parameters and buffers, or with `MAX_HELD_BYTES` of tensors on the way, is not
replayed: they are copied once, to be sure, and there is little to gain where operations take long.
"""
MAX_HELD_BYTES = 8 * MAX_EXACT_BYTES

Function = Callable[[], Sequence[Any]]
"""Takes the step with torch; returns what of it is wanted afterwards."""


class Backend(Protocol):
    """What makes a recorded step fast.

    Attributes:
        exact: Whether it does what was recorded, to the last bit, and nothing else.
        is_timed: Whether what it makes is to be used only where it takes less time than torch.
    """

    exact: bool
    is_timed: bool

    def require_possible(self) -> None:
        """Raises BuildError if it can make nothing fast on this machine."""

    def get(self, captured: Captured) -> Compiled | None:
        """Returns what was made of a step; None while it is not there yet.

        Raises:
            BuildError: It can't be made.
        """


class Variant:
    """A step for one kind of inputs and one state of what it works on.

    Attributes:
        num_seen: How often it was taken before it was recorded.
        captured: What was recorded.
        compiled: What takes it, once it is there and gave what torch gives.
        eager: Whether it is left to torch.
        num_slower: How often what takes it was slower than torch.
        num_waiting: How many steps torch is to take before the two are compared again.
    """

    def __init__(self, *, eager: bool = False) -> None:
        self.num_seen = 0
        self.captured: Captured | None = None
        self.compiled: Compiled | None = None
        self.eager = eager
        self.num_slower = self.num_waiting = 0


class Step:
    """A step, for all the kinds of inputs that it meets.

    Args:
        watched: What it works on.
        backend: What makes it fast.
        device: Where it runs.
        counts: Counts what becomes of steps, by outcome.
        what: What the log calls it.
        guarded: Whether the last wanted result is a boolean tensor, and nothing is to change where
            it is false.
        keeps_gradients: Whether parameters are to have their gradients afterwards.
        num_steps: How often it will be taken, as far as that is known.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        watched: Watched,
        backend: Backend,
        device: torch.device,
        counts: "Counter[str]",
        *,
        what: str,
        guarded: bool = False,
        keeps_gradients: bool = True,
        num_steps: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._watched = watched
        self._backend = backend
        self._device = device
        self._counts = counts
        self._what = what
        self._guarded = guarded
        self._keeps_gradients = keeps_gradients
        self._clock = clock
        self._comes_often = num_steps > RECORD_AFTER
        self._first_kind: Any = None
        self._exact = backend.exact
        self._variants: dict[Any, Variant] = {}
        self._known: dict[Any, Variant] = {}
        self._version = -1
        self._num_taken = self._num_looks = 0

    def take(self, inputs: Sequence[Any], version: int, function: Function) -> Sequence[Any] | None:
        """Takes the step if it is compiled, or to be recorded or checked.

        Args:
            inputs: Tensors that are different each time, and things that must be the same ones.
            version: A number that is another one when anything that is watched may have changed
                but the contents of tensors.
            function: Takes the step with torch.

        Returns:
            What is wanted of it; None if nothing was done: the step is then to be taken by torch.
        """
        self._num_taken += 1
        if version != self._version:
            self._version = version
            self._known.clear()
        kind = tuple([_kind(value) for value in inputs])
        variant = self._known.get(kind)
        if variant is None:
            variant = self._look(kind)
        if variant.compiled is not None:
            return self._run(variant, inputs, variant.compiled)
        if variant.eager:
            return None
        if variant.captured is None:
            variant.num_seen += 1
            if variant.num_seen < self._record_after(kind):
                return None
            return self._attempt(variant, inputs, function, self._record)
        if variant.num_waiting:
            variant.num_waiting -= 1
            return None
        try:
            compiled = self._backend.get(variant.captured)
        except BuildError as error:
            self._leave(variant, "failed", error)
            return None
        if compiled is None:
            return None
        if compiled.is_faster is None or self._exact:
            return self._attempt(variant, inputs, function, partial(self._check, compiled=compiled))
        # It is that of another step, which compared it.
        self._switch(variant, compiled)
        return self._run(variant, inputs, compiled) if compiled.is_faster else None

    def clear(self) -> None:
        """Forgets what was compiled: what it worked on is gone."""
        self._variants.clear()
        self._known.clear()

    def _record_after(self, kind: Any) -> int:
        """Returns how often a kind of inputs is seen before it is worth recording."""
        if self._first_kind is None:
            self._first_kind = kind
        # Others, such as the last batch of an epoch, come more seldom.
        return (
            RECORD_EARLY_AFTER if self._comes_often and kind == self._first_kind else RECORD_AFTER
        )

    def _look(self, kind: Any) -> Variant:
        """Finds out what to do for a kind of inputs, and remembers it."""
        if self._exact and self._num_looks > FREE_LOOKS + self._num_taken // MIN_HITS:
            return Variant(eager=True)
        self._num_looks += 1
        if len(self._known) >= MAX_KINDS:
            self._known.clear()
        variant = self._known[kind] = self._find(kind)
        return variant

    def _find(self, kind: Any) -> Variant:
        try:
            key = (kind, self._watched.fingerprint())
        except UnrecordableError as error:
            self._leave(Variant(), "refused", error)
            return Variant(eager=True)
        variant = self._variants.get(key)
        if variant is None:
            variant = Variant(eager=len(self._variants) >= MAX_VARIANTS)
            if len(self._variants) < MAX_VARIANTS:
                self._variants[key] = variant
        return variant

    def _run(
        self, variant: Variant, inputs: Sequence[Any], compiled: Compiled
    ) -> Sequence[Any] | None:
        captured = variant.captured
        assert captured is not None
        for parameter in captured.fresh:
            if parameter.grad is not None:
                return None
        for rate in captured.rates:
            rate.follow()
        undone = captured.draws and (self._exact or captured.ok is not None)
        before = RandomState.capture(self._device) if undone else None
        undo = Undo(captured.mutated) if self._exact else None
        graded = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            outputs = compiled([*[inputs[index] for index in captured.taken], *captured.fixed])
        except (RuntimeError, LookupError, ValueError, NotImplementedError) as error:
            # Such as an index that is out of range; torch finds the words for it.
            if undo is None:
                self._leave(variant, "failed", error)
            else:
                undo.restore()
            if before is not None:
                before.restore(self._device)
            return None
        finally:
            torch._C._set_grad_enabled(graded)
        if captured.ok is not None and not outputs[captured.ok].item():
            if before is not None:
                before.restore(self._device)
            return None
        if captured.mutated:
            torch.autograd.graph.increment_version(captured.mutated)
        for parameter, index in captured.gradients:
            parameter.grad = None if index is None else outputs[index]
        self._counts["replayed" if self._exact else "compiled"] += 1
        return captured.results(inputs, outputs)

    def _attempt(
        self,
        variant: Variant,
        inputs: Sequence[Any],
        function: Function,
        attempt: Callable[[Variant, Sequence[Any], Function, Snapshot], Sequence[Any] | None],
    ) -> Sequence[Any] | None:
        """Takes the step in a way that may fail, and then everything is as before."""
        # What is replayed changes no input, or is not replayed: the recording knows.
        given = [v for v in inputs if isinstance(v, torch.Tensor) and not self._exact]
        snapshot: Snapshot | None = None
        wanted: Sequence[Any] | None = None
        try:
            self._backend.require_possible()
            worked_on = [*self._watched.tensors(), *given]
            if self._exact and sum(tensor.nbytes for tensor in worked_on) > MAX_EXACT_BYTES:
                raise UnrecordableError("it works on more than is worth it")
            snapshot = Snapshot(worked_on, self._watched.parameters(), self._device)
            wanted = attempt(variant, inputs, function, snapshot)
        except UnrecordableError as error:
            self._leave(variant, "refused", error)
        except Exception as error:  # noqa: BLE001  # torch then takes the step, and fails if it must
            self._leave(variant, "failed", error)
        if wanted is None and snapshot is not None:
            snapshot.restore()
        return wanted

    def _record(
        self, variant: Variant, inputs: Sequence[Any], function: Function, snapshot: Snapshot
    ) -> Sequence[Any] | None:
        """Takes the step and writes it down."""
        before = self._watched.fingerprint()
        limit_bytes = MAX_HELD_BYTES if self._exact else math.inf
        recording = Recording(compiled=not self._exact, limit_bytes=limit_bytes)
        snapshot.recording = recording
        # Exact steps end before their optimizers step.
        tracing: AbstractContextManager[list[Rate]] = (
            nullcontext([]) if self._exact else traceable(self._watched.optimizers)
        )
        with tracing as rates, recording:
            wanted = function()
        if self._guarded and not wanted[-1].item():
            return None
        try:
            self._capture(variant, inputs, wanted, snapshot, rates, before)
        except UnrecordableError as error:
            if not self._exact:
                raise
            # What ran is what torch does, and nothing else.
            self._leave(variant, "refused", error)
        return wanted

    def _capture(
        self,
        variant: Variant,
        inputs: Sequence[Any],
        wanted: Sequence[Any],
        snapshot: Snapshot,
        rates: Sequence[Rate],
        before: Any,
    ) -> None:
        """Makes a captured step of what was recorded.

        Raises:
            UnrecordableError: It does what can't be made fast.
        """
        recording = snapshot.recording
        assert recording is not None
        recording.require_complete()
        if self._watched.fingerprint() != before:
            raise UnrecordableError("it changes more than the contents of tensors")
        changed = {id(recording.external[number]) for number in recording.mutated}
        for tensor in self._watched.tensors():
            if id(tensor) not in changed and not same_elements(snapshot.copies[id(tensor)], tensor):
                raise UnrecordableError("an operation changes what it does not say that it changes")
        capturing = Capturing(recording, inputs, self._watched.tensors(), rates, exact=self._exact)
        variant.captured = capturing.capture(
            wanted, snapshot.gradients if self._keeps_gradients else (), guarded=self._guarded
        )
        self._counts["recorded"] += 1

    def _check(
        self,
        variant: Variant,
        inputs: Sequence[Any],
        function: Function,
        snapshot: Snapshot,
        *,
        compiled: Compiled,
    ) -> Sequence[Any] | None:
        """Takes the step with torch, and with what was compiled on a copy; compares the two."""
        captured = variant.captured
        assert captured is not None
        begin = self._clock()
        wanted = function()
        torch_seconds = self._clock() - begin
        if self._guarded and not wanted[-1].item():
            return None
        after = RandomState.capture(self._device)
        snapshot.random_state.restore(self._device)
        copies = {t.data_ptr(): snapshot.copies[id(t)] for t in captured.mutated}
        for rate in captured.rates:
            rate.follow()
        fixed = [copies.get(tensor.data_ptr(), tensor) for tensor in captured.fixed]
        try:
            with torch.no_grad():
                tensors = [*[inputs[index] for index in captured.taken], *fixed]
                outputs = compiled([*tensors])
                compare = require_same if self._exact else require_close
                for value, expected in pairs(captured, inputs, outputs, wanted, copies):
                    compare(value.detach(), expected.detach())
                num_timed = NUM_TIMED if self._backend.is_timed else 0
                seconds = [self._time(compiled, [*tensors]) for _ in range(num_timed)]
        except (AssertionError, RuntimeError) as error:
            self._leave(variant, "mismatched", error)
            return wanted
        finally:
            after.restore(self._device)
        self._counts["checked"] += 1
        is_faster = min(seconds, default=0.0) <= torch_seconds
        variant.num_slower += not is_faster
        if is_faster or variant.num_slower >= NUM_COMPARED:
            compiled.is_faster = is_faster
            self._switch(variant, compiled)
        else:
            variant.num_waiting = RECORD_AFTER
        return wanted

    def _time(self, compiled: Compiled, tensors: list[torch.Tensor]) -> float:
        begin = self._clock()
        compiled(tensors)
        return self._clock() - begin

    def _switch(self, variant: Variant, compiled: Compiled) -> None:
        """Lets a step that is right be taken from now on, if it is faster."""
        if not compiled.is_faster:
            self._leave(variant, "slower", "torch takes less time")
            return
        variant.compiled = compiled
        log.log(
            logging.DEBUG if self._exact else logging.INFO,
            "step replayed" if self._exact else "step compiled",
            step=self._what,
        )
        if not self._keeps_gradients:
            for parameter in self._watched.parameters():
                parameter.grad = None

    def _leave(self, variant: Variant, outcome: str, why: object) -> None:
        """Leaves a step to torch from now on."""
        variant.eager = True
        variant.captured = variant.compiled = None
        self._counts[outcome] += 1
        # Nobody asked for replays; only what can't be right is worth a word.
        expected = self._exact and outcome != "mismatched"
        log.log(
            logging.DEBUG if expected else logging.WARNING,
            "step stays eager",
            step=self._what,
            outcome=outcome,
            reason=str(why)[:500],
        )


def _kind(value: Any) -> Any:
    """Returns what must be equal for an input to be of the same kind."""
    if not isinstance(value, torch.Tensor):
        return id(value)
    if value.requires_grad and value.is_leaf:
        return (id(value), value.shape)
    return (value.shape, value.stride(), value.dtype)
