"""The state of a session as data: a graph of plain nodes, and the storages of its tensors.

What a session holds is walked as ``copy.deepcopy`` would walk it, but to data: numbers and strings
as they are, containers by their elements, tensors as views of storages, and objects of the classes
that `names.allowed_class` knows by name and state (``__getstate__``, as torch's own modules,
optimizers and schedulers define it). What is shared stays shared, and cycles stay cycles. Nothing
is pickled, and rebuilding looks classes and functions up among those that torch has loaded; it
imports and evaluates nothing.

A tensor that autograd computed keeps its elements but not its graph; see `lost_graphs`.
"""

from gradwire_server.engine.snapshot.encoding import take_snapshot, take_snapshots
from gradwire_server.engine.snapshot.form import Optional, Snapshot, UnsupportedError
from gradwire_server.engine.snapshot.names import register
from gradwire_server.engine.snapshot.rebuilding import Rebuilder

__all__ = [
    "Optional",
    "Rebuilder",
    "Snapshot",
    "UnsupportedError",
    "register",
    "take_snapshot",
    "take_snapshots",
]
