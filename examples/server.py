"""A service on 127.0.0.1:9000 for the examples and templates that call one.

Start it with `.venv/bin/python examples/server.py [PORT]`, and Treadle with
TREADLE_HTTP_ALLOW=127.0.0.1. It keeps nothing.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

KEY = "example-directory-key"
"""The value of the secret `directory_key` in lead_enrichment.json."""
PEOPLE = {
    "ann@example.com": {"name": "Ann", "company": "Example Ltd", "employees": 240},
    "ada@example.com": {"name": "Ada", "company": "Example Ltd", "employees": 240},
}


class ExampleService(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer /people and /enrich by the parameter `email`; /enrich needs the key."""
        parts = urlsplit(self.path)
        if parts.path not in ("/people", "/enrich"):
            self._answer(404, {"problem": "there is nothing at this path"})
        elif parts.path == "/enrich" and self.headers.get("authorization") != f"Bearer {KEY}":
            self._answer(401, {"problem": "the key is wrong"})
        else:
            email = parse_qs(parts.query).get("email", [""])[0].lower()
            person = PEOPLE.get(email)
            self._answer(200 if person else 404, person or {"problem": "nobody has this address"})

    def do_POST(self) -> None:
        """Accept any JSON at /leads and /signups, and repeat it."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            self._answer(201, {"accepted": json.loads(body)})
        except ValueError:
            self._answer(400, {"problem": "the body is no JSON"})

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing for each request."""

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), ExampleService)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
