"""Notifications of other systems: endpoints, and the outbox of deliveries to them.

Database triggers insert the deliveries in the transaction of the change that they report (migration
0021), so a crash leaves both or neither.

Modules:
    delivery: Deliveries as rows: list and resend.
    endpoint: Endpoints as rows: create, change, delete and list.
    outbox: Claims deliveries that are due, and records the results of their attempts.
"""
