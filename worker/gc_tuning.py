"""Python's garbage collector in a process that lives long: what was there at the start is not looked through again and again.

Looking through all that was imported takes a tenth of a second, in which nobody is served. What a run leaves behind is nearly all
freed by reference counts, so that a worker may look for it seldom: 5 % of its CPU on the chain of ten nodes. A server may not:
what subscriptions leave behind would stay, and the rarer pass would take longer.
"""

import gc

THRESHOLDS = 50_000, 20, 100
"""Objects made before the young are looked through, and how often for the older ones."""


def settle_down() -> None:
    """Once all modules are loaded: what they made stays for good."""
    gc.collect()
    gc.freeze()


def look_seldom() -> None:
    gc.set_threshold(*THRESHOLDS)
