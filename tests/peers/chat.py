"""What speaks the chat-completions protocol on loopback, at `{peer.url}/v1`. The name of the model says how it behaves."""

import json

from tests.peers import chat_models as chat_models  # and those that do not
from tests.peers import misbehaving_chat as misbehaving_chat  # which brings models that misbehave
from tests.peers.chat_protocol import MODELS, asked, refuse
from tests.peers.http_protocol import Peer, Request, Writer, answer, at


@at("/v1/chat/completions")
async def chat_completions(peer: Peer, request: Request, writer: Writer) -> None:
    await MODELS[asked(request)["model"]](peer, request, writer)


@at("/v1/models")
async def models(_: Peer, request: Request, writer: Writer) -> None:
    if request.headers.get("authorization") == "Bearer wrong":
        refuse(writer, "401 Unauthorized", "no such key")
    else:
        answer(writer, json.dumps({"data": [{"id": name} for name in ["pulled:latest", *MODELS]]}).encode())
