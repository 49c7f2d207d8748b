"""Endpoints, the deliveries to them, and their mutations.

Modules:

- endpoint: endpoints and deliveries
- mutations: inputs, payloads and the root fields
"""
