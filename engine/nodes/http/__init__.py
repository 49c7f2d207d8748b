"""The node type `http`: requests to addresses that authors write, with protection against SSRF.

Modules:
    node: the node type, and the requests of one visit.
    config: the config of body, sign-in, retries, response and pagination.
    request: builds a request from rendered values.
    exchange: sends one request, follows redirects and reads the response.
    response: decodes the body of a response.
    retries: decides when a request is sent again.
    pagination: reads a list page by page.
    client: the HTTP client that connects only to allowed addresses.
    decompression: decompresses the body of a response within limits.
    visible_address: what messages may show of an address whose template names secrets.
    addresses: decides which addresses are allowed.
"""
