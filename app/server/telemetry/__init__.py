"""What operators and their tools read from a server: probes, metrics and request ids.

- `metrics`: /metrics, in the text format of Prometheus.
- `probes`: /ping, /livez, /readyz and /health, and the watch for live workers.
- `request_ids`: gives each request an id, which is in the response, in errors and in the log.
"""
