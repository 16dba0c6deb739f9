"""What is missing in a stream of numbered records, counted for each source and topic."""

from __future__ import annotations

from loadgen.event.frame import Frame


class Gaps:
    """Counts records that never came, from the numbers of those that did.

    A gap shows when a later record of the same source and topic comes; topics that aren't subscribed to have numbers
    of their own, so they leave none.

    Args:
        from_start: Whether the numbers of each source and topic are awaited from 0; else from the first that comes,
            as for a subscriber that joined a stream under way.
    """

    def __init__(self, *, from_start: bool = False) -> None:
        self._from_start = from_start
        self._next: dict[tuple[int, str], int] = {}
        self.missing = 0

    def seen(self, frame: Frame) -> int:
        """Count what is missing before a frame.

        Args:
            frame: The frame.

        Returns:
            How many records are.
        """
        key = frame.source, frame.topic
        awaited = self._next.get(key, 0 if self._from_start else frame.topic_seq)
        self._next[key] = frame.topic_seq + frame.records
        # A lower number than awaited: its publisher began again, and what was lost between is not known.
        gap = max(0, frame.topic_seq - awaited)
        self.missing += gap
        return gap
