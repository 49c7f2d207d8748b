"""A chat-completions endpoint at `{peer.url}/v1`, whose model names select a behaviour."""

import json

from tests.peers import chat_models as chat_models  # registers models that behave
from tests.peers import misbehaving_chat as misbehaving_chat  # registers models that misbehave
from tests.peers.chat_protocol import MODELS, body_of, refuse
from tests.peers.http_protocol import Peer, Request, Writer, answer, at


@at("/v1/chat/completions")
async def chat_completions(peer: Peer, request: Request, writer: Writer) -> None:
    await MODELS[body_of(request)["model"]](peer, request, writer)


@at("/v1/models")
async def models(_: Peer, request: Request, writer: Writer) -> None:
    if request.headers.get("authorization") == "Bearer wrong":
        refuse(writer, "401 Unauthorized", "no such key")
    else:
        answer(writer, json.dumps({"data": [{"id": name} for name in ["pulled:latest", *MODELS]]}).encode())
