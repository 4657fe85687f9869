"""Numbers that take long to make, made again only now and then: people who vote come before people who watch.

The numbers of a task are made from all its votes. With ten thousand votes that takes most of a second, and an admin's
page asks for them every few seconds. So what took long is kept for a while that grows with how long it took.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

QUICK = 0.05
"""Seconds: what takes no longer is never kept."""
TIMES = 50
"""What took a second is kept for this many: making it takes one core two per cent of the time."""
KEPT = 64


class _Made(NamedTuple):
    value: Any
    at: float
    until: float


class Fresh:
    """Values by a key, each made by one thread at a time; the others are given the last one meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: OrderedDict[Hashable, _Made] = OrderedDict()
        self._making: set[Hashable] = set()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> tuple[Any, float]:
        """Return the value of a key and its age in seconds: 0 where it was made now.

        Args:
            key: what the value is of.
            make: makes it; called where none is held, or the one held is old and nobody is making it.
        """
        with self._lock:
            held, now = self._held.get(key), self._clock()
            if held is not None and (now < held.until or key in self._making):
                return held.value, now - held.at
            self._making.add(key)
        try:
            value = make()
            end = self._clock()
            with self._lock:
                self._held.pop(key, None)
                if end - now > QUICK:
                    self._held[key] = _Made(value, now, end + TIMES * (end - now))
                    while len(self._held) > KEPT:
                        self._held.popitem(last=False)
        finally:
            with self._lock:
                self._making.discard(key)
        return value, 0.0
