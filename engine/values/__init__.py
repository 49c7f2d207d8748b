"""JSON values: what can be stored, JSON Schema, timestamps, and the redaction of secrets.

Modules:
    encodings: The forms in which a secret can occur in a text, such as base64 or JSON.
    json_diff: Compares two JSON values field by field.
    json_schema: Checks JSON Schemas of authors, and values against them.
    json_text: Parses JSON text: byte order marks, and whole numbers of 64 bits.
    kinds: Names the types of JSON values, and quotes values, in messages.
    large_values: Checks and redacts large values outside of the event loop.
    redaction: Replaces the values of secrets in texts, JSON values, streams and log lines.
    schema_defaults: Completes a value by the defaults of its JSON Schema.
    schema_messages: Own sentences for the violations of JSON Schemas.
    secret_results: The results of expressions that name secrets, as redaction searches for them.
    storable: Checks that a value is JSON that Postgres and every client can hold.
    timestamps: Parses, formats and shifts timestamps (RFC 3339).
    tokens: Estimates of tokens of texts.
"""
