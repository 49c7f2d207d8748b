"""Chat models: the catalog of models, the calls of a model, and `treadle/echo`, which needs no key.

Modules:
    catalog: the models of this host by name; the resource `models` of nodes.
    base: a model as nodes see it, its sampling parameters and its price.
    factory: makes a LangChain chat model from an entry of the catalog file.
    http_client: the HTTP client of OpenAI-compatible endpoints, with size limits.
    availability: checks whether the endpoint of a model can be used now.
    chat_completions: the client of the chat-completions protocol, in all its forms.
    calls: one streamed call of a model.
    answer: the answer, put together from its chunks.
    thinking: separates the thinking of a model from its answer.
    tool_call_parts: puts the tool calls of an answer together.
    structured_output: a call whose answer matches a JSON Schema.
    json_in_text: finds JSON in an answer.
    tool_calling: binds tools of the catalog to a model and runs the calls that it requests.
    errors: maps the exceptions of a call to failures of the node.
    echo, echo_answers: the built-in test model and its rules for structured answers.
"""
