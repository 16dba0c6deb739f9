"""The nodes of a batch whose requests the engine makes: what it is told of them, and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loadgen import _core
from loadgen.dispatch.callee import Callee
from loadgen.dispatch.ended import NODE, Ended
from loadgen.node import call

if TYPE_CHECKING:
    from loadgen.dispatch.result import PlainNode
    from loadgen.node.call import Asking
    from loadgen.node.memory import Seen
    from loadgen.node.node import Node
    from loadgen.node.progress import Watch


class NodeService:
    """Nodes as the :class:`~loadgen.dispatch.native_run.Destination` of native requests, by the policy's numbers.

    Args:
        asking: What is asked.
        order: What is known of the nodes, in the policy's order.
        watch: Who counts each node's answers.
    """

    url = ""

    def __init__(self, asking: Asking, order: Sequence[Seen], watch: Watch) -> None:
        self._asking = asking
        self._order = order
        self._watch = watch
        self.told = asking.told([seen.node for seen in order])
        """In the engine's words."""
        self.described = {"call": Callee(asking).name}
        """For a journal: as where Python makes the calls."""

    def bodies(self, items: Sequence[Any]) -> tuple[_core.Bodies, dict[str, _core.Bodies] | None]:
        """Render the items in each API that a node speaks.

        Args:
            items: Texts, or messages.

        Raises:
            ConfigError: If one can't be sent.
        """
        apis = dict.fromkeys(self._asking.api(seen.node) for seen in self._order)
        first, *others = ((str(api), _core.Bodies([self._asking.body(api, item) for item in items])) for api in apis)
        return first[1], dict(others)

    def value(self, ended: Ended) -> Any:
        """Return the vector or answer of a good request, and count it for its node.

        Args:
            ended: As the engine tells it.

        Raises:
            RequestError: If it isn't what was asked for.
        """
        node = self._node(ended)
        value = self._asking.value(node, ended)
        self._watch.answered(node.name)
        return value

    def words(self, ended: Ended) -> str:
        """Return why a request failed, and where.

        Args:
            ended: As the engine tells it.
        """
        return call.words(self._node(ended), ended)

    def _node(self, ended: Ended) -> Node:
        place = ended[NODE]
        assert place is not None  # what went nowhere has no answer, and no words
        return self._order[place].node

    def look(self, nodes: Sequence[tuple[PlainNode | None, str]]) -> None:
        """Note what each node works on, and why it failed last.

        Args:
            nodes: What the policy knows of each.
        """
        for seen, (view, failure) in zip(self._order, nodes, strict=False):  # there are none before the phase begins
            seen.in_flight = 0 if view is None else view[1]
            seen.reason = failure or seen.reason
