"""Steps that stay exact: the operations that were recorded, replayed without autograd."""

from weakref import WeakValueDictionary

from gradwire_server.engine.compiling.builds import Compiled
from gradwire_server.engine.compiling.capture import Captured
from gradwire_server.engine.compiling.graph import Graph
from gradwire_server.engine.compiling.interpreter import Interpreted


class Replays:
    """Makes functions that do what was recorded; sessions that recorded the same share one."""

    exact = True
    is_timed = False

    def __init__(self) -> None:
        self._made: WeakValueDictionary[str, Interpreted] = WeakValueDictionary()

    def require_possible(self) -> None:
        """It always is."""

    def get(self, captured: Captured) -> Compiled:
        """Returns what takes a step.

        Raises:
            BuildError: torch's interpreter would not do just what was recorded.
        """
        made = self._made.get(captured.graph_json)
        if made is None:
            made = Interpreted(Graph.from_json(captured.graph_json))
            self._made[captured.graph_json] = made
        return made
