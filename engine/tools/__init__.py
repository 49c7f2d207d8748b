"""Tools that nodes, agents and code can call: the catalog, and the sources of tools.

Modules:
    catalog: all tools by name, and the checks of every call; the resource `tools` of nodes.
    builtin: the built-in tools, made from the functions of `inline` and `isolated`.
    inline: built-in tools whose time is bounded by the length of their input.
    isolated: built-in tools that run in the isolated process: queries, patterns, formulas.
    argument_messages: own sentences for the errors of jmespath and re2.
    entry_points: tools of packages, by the entry point `treadle.tools`.
    sql: tools that read the databases of the catalog file.

Packages:
    mcp: tools of MCP servers.
"""
