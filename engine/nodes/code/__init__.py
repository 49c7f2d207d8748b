"""The node type `code`: runs the author's Python in a sandbox process.

Modules:
    node: the config and the node type.
    sandbox: one call in a sandbox process, with its limits and its printed lines.
    corrections: corrects functions of the sandbox's Python that differ from CPython.
    regular_expressions: the functions of `re` that run instead of those of the sandbox.
    dict_keys: rewrites stores into objects so that equal keys stay as in CPython.
    limitations: finds in the source what the sandbox's Python lacks.
    classes: finds special methods of classes that the sandbox never calls.
    source: reads the source without running it: syntax, parameters, positions.
    tools: calls of catalog tools by the code.
    output: checks the returned value inside the sandbox.
    errors: maps errors of the sandbox to failures of the node.
"""
