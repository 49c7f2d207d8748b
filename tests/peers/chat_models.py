"""Models that answer, call tools, or say in the words of the protocol why they do not."""

import json

from tests.peers.chat_protocol import asked, calls, delta, event, model, refuse, said, stream, text, usage
from tests.peers.http_protocol import Peer, Request, Writer


@model("repeats")
async def repeats(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(said(request)[-1]))


@model("fenced")
async def fenced(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(f"```json\n{said(request)[-1]}\n```"))


@model("second-try")
async def second_try(_: Peer, request: Request, writer: Writer) -> None:
    """Gives the second line of the prompt once it has been told that the first one does not fit."""
    lines = said(request)[0].splitlines()
    stream(writer, text(lines[min(len(said(request)) - 1, 1)]))


@model("calls")
async def calls_tools(_: Peer, request: Request, writer: Writer) -> None:
    """The calls that the prompt lists, as JSON; then it says what the tools said, or JSON where it was asked for JSON."""
    results = said(request, "tool")
    wanted = asked(request)
    if "response_format" in wanted:
        stream(writer, text(json.dumps({"said": " | ".join(results)})))
    elif results:
        stream(writer, text(f"They said: {' | '.join(results)}"))
    else:
        stream(writer, calls(json.loads(said(request)[0])))


@model("calls-for-ever")
async def calls_for_ever(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, calls(json.loads(said(request)[0])))


@model("answers-by-function")
async def answers_by_function(_: Peer, request: Request, writer: Writer) -> None:
    function = asked(request)["tool_choice"]["function"]["name"]
    stream(writer, calls([{"name": function, "arguments": said(request)[-1]}]))


@model("tells-no-usage")
async def tells_no_usage(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [data for data in text("hello") if b'"usage"' not in data])


@model("tells-no-usage-and-calls")
async def tells_no_usage_and_calls(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [data for data in calls(json.loads(said(request)[0])) if b'"usage"' not in data])


@model("cut-short")
async def cut_short(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(said(request)[-1], "length"))


@model("busy")
async def busy(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "429 Too Many Requests", "slow down", "rate_limit_exceeded", retry_after="7")


@model("busy-once")
async def busy_once(peer: Peer, request: Request, writer: Writer) -> None:
    if peer.count("/v1/chat/completions") == 1:
        refuse(writer, "429 Too Many Requests", "slow down", retry_after_ms="300")
    else:
        stream(writer, text("now"))


@model("poor")
async def poor(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "429 Too Many Requests", "You exceeded your current quota", "insufficient_quota")


@model("locked")
async def locked(_: Peer, request: Request, writer: Writer) -> None:
    """Repeats the key, as some do."""
    key = request.headers["authorization"].removeprefix("Bearer ")
    refuse(writer, "401 Unauthorized", f"Incorrect API key provided: {key}", "invalid_api_key")


@model("gone")
async def gone(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "404 Not Found", "The model `gone` does not exist", "model_not_found")


@model("full")
async def full(_: Peer, request: Request, writer: Writer) -> None:
    told = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens."
    refuse(writer, "400 Bad Request", told, "context_length_exceeded")


@model("llama-full")
async def llama_full(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "400 Bad Request", "the request exceeds the available context size")


@model("choosy")
async def choosy(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "400 Bad Request", "Unsupported value: 'temperature'", "unsupported_value")


@model("prude")
async def prude(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "400 Bad Request", "The prompt triggered the content management policy", "content_filter")


@model("prude-in-the-middle")
async def prude_in_the_middle(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text("Well,", "content_filter"))


@model("refuses")
async def refuses(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [delta({"role": "assistant", "refusal": "I cannot"}), delta({}, "stop"), usage(), event("[DONE]")])


@model("sick")
async def sick(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "503 Service Unavailable", "overloaded")
