"""Endpoints, the deliveries to them, and their mutations.

Modules:

- alert_mutations: inputs, payloads and the root mutations of alert rules
- alert_rule: alert rules, and their root queries
- endpoint: endpoints and deliveries
- mutations: inputs, payloads and the root fields
"""
