"""Messages to endpoints of other systems: how they are signed, sent and repeated. Nothing is stored.

Modules:

- message: the headers of a signed message, and the times of its attempts
- sender: sends a message to an endpoint
"""
