"""Test models that follow the protocol: they answer, call tools, or return an error."""

import json

from tests.peers.chat_protocol import body_of, calls, delta, event, messages_of, model, refuse, stream, text, usage
from tests.peers.http_protocol import Peer, Request, Writer, answer


@model("repeats")
async def repeats(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(messages_of(request)[-1]))


@model("fenced")
async def fenced(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(f"```json\n{messages_of(request)[-1]}\n```"))


@model("second-try")
async def second_try(_: Peer, request: Request, writer: Writer) -> None:
    """Answers with the first line of the prompt, and after a correction with the second one."""
    lines = messages_of(request)[0].splitlines()
    stream(writer, text(lines[min(len(messages_of(request)) - 1, 1)]))


@model("calls")
async def calls_tools(_: Peer, request: Request, writer: Writer) -> None:
    """Makes the calls in the prompt; then answers with the results, as JSON if requested."""
    results = messages_of(request, "tool")
    if "response_format" in body_of(request):
        stream(writer, text(json.dumps({"said": " | ".join(results)})))
    elif results:
        stream(writer, text(f"They said: {' | '.join(results)}"))
    else:
        stream(writer, calls(json.loads(messages_of(request)[0])))


@model("calls-for-ever")
async def calls_for_ever(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, calls(json.loads(messages_of(request)[0])))


@model("answers-by-function")
async def answers_by_function(_: Peer, request: Request, writer: Writer) -> None:
    function = body_of(request)["tool_choice"]["function"]["name"]
    stream(writer, calls([{"name": function, "arguments": messages_of(request)[-1]}]))


@model("tells-no-usage")
async def tells_no_usage(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [data for data in text("hello") if b'"usage"' not in data])


@model("tells-no-usage-and-calls")
async def tells_no_usage_and_calls(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, [data for data in calls(json.loads(messages_of(request)[0])) if b'"usage"' not in data])


@model("plain")
async def plain(_: Peer, request: Request, writer: Writer) -> None:
    """Sends the chunks behind `RAW:` in the prompt; after tool results it answers with them.

    Each chunk is [delta, finish reason]. The prompt of a second request may have other chunks behind
    `THEN:`.
    """
    results = messages_of(request, "tool")
    if results:
        stream(writer, text(f"RESULTS:{json.dumps(results)}"))
        return
    raw = messages_of(request)[0].partition("RAW:")[2]
    first, _, second = raw.partition("THEN:")
    chunks = json.loads(second if second and len(messages_of(request)) > 1 else first)
    stream(writer, [*(delta(*chunk) for chunk in chunks), usage(), event("[DONE]")])


@model("thinks-then-fails-once")
async def thinks_then_fails_once(peer: Peer, request: Request, writer: Writer) -> None:
    """Thinks and ends with an error at the first request of a prompt; then answers."""
    again = sum(sent.body == request.body for sent in peer.seen) > 1
    thought = [delta({"reasoning_content": "hm"}), delta({"content": "No"}), delta({}, "error"), event("[DONE]")]
    stream(writer, text("now") if again else thought)


@model("thinktags")
async def thinktags(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text('<think>let me see</think>\n\n{"name":"Ann","age":3}'))


@model("prose")
async def prose(_: Peer, request: Request, writer: Writer) -> None:
    """Answers with the prompt as it is, whatever schema is requested."""
    stream(writer, text(messages_of(request)[0]))


@model("body")
async def body(_: Peer, request: Request, writer: Writer) -> None:
    """Does not stream: the prompt is the body of its response, of status 200."""
    answer(writer, messages_of(request)[0].encode(), media="application/json")


@model("cut-short")
async def cut_short(_: Peer, request: Request, writer: Writer) -> None:
    stream(writer, text(messages_of(request)[-1], "length"))


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
    """Repeats the key in its error, as some providers do."""
    key = request.headers["authorization"].removeprefix("Bearer ")
    refuse(writer, "401 Unauthorized", f"Incorrect API key provided: {key}", "invalid_api_key")


@model("gone")
async def gone(_: Peer, request: Request, writer: Writer) -> None:
    refuse(writer, "404 Not Found", "The model `gone` does not exist", "model_not_found")


@model("full")
async def full(_: Peer, request: Request, writer: Writer) -> None:
    message = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens."
    refuse(writer, "400 Bad Request", message, "context_length_exceeded")


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
