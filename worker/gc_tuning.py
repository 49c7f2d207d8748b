"""Tunes the garbage collector of Python for a long-lived process.

A full collection over everything that was imported takes 0.1 s, in which the process serves
nothing. Nearly all objects of a run are freed by reference counts, so a worker may collect seldom:
this saves 5 % of its CPU on a chain of ten nodes. A server may not: the cycles that subscriptions
leave would pile up, and the rarer collection would take longer.
"""

import gc

THRESHOLDS = 50_000, 20, 100
"""Allocations between two collections of the youngest generation, and the ratios of the older
ones."""


def freeze_modules() -> None:
    """Exclude everything that exists now from collections. Call it once all modules are loaded."""
    gc.collect()
    gc.freeze()


def collect_seldom() -> None:
    gc.set_threshold(*THRESHOLDS)
