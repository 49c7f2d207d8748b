"""How long a run may be in each status before somebody else decides. Settings go before these."""

from datetime import timedelta

PENDING = timedelta(days=7)
"""Then it is cancelled."""
PAUSING = timedelta(seconds=60)
"""Then its running nodes are cancelled, to run again on resume, and it is PAUSED."""
CANCELLING = timedelta(seconds=10)
"""Then the worker process that still holds it is killed."""
REST = timedelta(days=30)
"""PAUSED or WAITING: then it is cancelled."""
