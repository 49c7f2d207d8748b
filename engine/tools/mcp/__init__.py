"""Tools of MCP (Model Context Protocol) servers.

The MCP libraries are slow to import, so they are imported when the first server is used.

Modules:
    server: a server of the catalog file, and the calls of its tools.
    session: a live session with a server, owned by one task.
    transport: the connections to servers, with size limits.
    listing: which tools of a server can be used.
    errors: maps the errors of the libraries.
"""
