"""Endpoints of other systems, the deliveries to them, and the alert rules that are reported to them.

Modules:

- alert_rules: create, change, delete and list alert rules
- checks: checks that endpoints and alert rules share
- endpoints: endpoints and deliveries
"""
