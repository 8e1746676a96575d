"""How the worker command sets the interpreter up: for an event loop that is always busy."""

import gc
import sys

__all__ = ["tune"]

SWITCH_INTERVAL = 0.001
"""Seconds a thread may keep the others waiting for the interpreter: the event loop is always busy
under load, and a broker's and the lease thread would wait Python's 5 ms at each of their turns."""
YOUNG_OBJECTS = 10_000
"""New containers between two collections. A hundred running jobs hold more than Python's 700 to
2,000, so that each collection would look at jobs that run, and find nothing."""


def tune() -> None:
    """Call it when everything is imported: what exists now is looked at by no collection more."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    youngest, *older = gc.get_threshold()
    if 0 < youngest < YOUNG_OBJECTS:  # an app that has set more, or none, knows why
        gc.set_threshold(YOUNG_OBJECTS, *older)
