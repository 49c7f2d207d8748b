"""Paths of the test server for the workflows of tests/end_to_end/workflows."""

import json

from tests.peers.http_protocol import Peer, Request, Writer, answer, at


@at("/papers")
async def papers(_: Peer, request: Request, writer: Writer) -> None:
    found = [{"title": "One", "summary": "first"}, {"title": "Two", "summary": "second"}]
    answer(writer, json.dumps(found).encode())


@at("/job")
async def job(peer: Peer, request: Request, writer: Writer) -> None:
    """POST starts a job, GET tells its state. It is done at the third question."""
    if request.method == "POST":
        answer(writer, b'{"id": "job-1"}', "202 Accepted")
        return
    posted = next(past for past in peer.seen if past.path == "/job" and past.method == "POST")
    polls = sum(past.path == "/job" and past.method == "GET" for past in peer.seen)
    state = {"state": "done" if polls >= 3 else "running", "result": json.loads(posted.body)["work"], "polls": polls}
    answer(writer, json.dumps(state).encode())
