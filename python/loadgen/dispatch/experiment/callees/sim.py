"""The callee in virtual time: the same policy against a simulated service, a grid in a blink."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loadgen import _core
from loadgen.dispatch.experiment.callees import Task
from loadgen.dispatch.experiment.measured import Attempt, AttemptKind, Call, Measured

if TYPE_CHECKING:
    from loadgen.dispatch.live import Call as Told

_MOST_IN_FLIGHT = 1_000
