"""The node types that call language models: `llm` and `agent`.

Modules:
    llm: one question, with text, a structured value or a few rounds of tool calls as the result.
    agent: the node type of a model that calls tools in a loop.
    agent_loop: the loop itself, on LangChain's agent graph.
    memory: the conversation of the thread of a run.
    prompting: the config, the messages and the time limit that both types share.
"""
