"""Events around the system under test: what starts runs by triggers, and what runs report outside.

- `peer`: an HTTP server: the list that a `poll` asks, and the endpoint that receives messages.
- `sources`: a trigger of each kind, and the events that must start one run each.
- `audit`: compares the events with the runs, and the ends of runs with the messages.
"""
