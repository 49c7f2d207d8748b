"""Own sentences for the faults of connections, so that no author reads the messages of a library.

Libraries wrap the exception of the operating system, whose class says more than their message. The
HTTP libraries have the same names for their exceptions, so these are known by name. Pure.
"""

import errno
import json
import socket
import ssl
from collections.abc import Iterator

_BY_NAME = {
    "ConnectError": "no connection could be made",
    "ConnectTimeout": "no connection was made in time",
    "DecodingError": "the body cannot be decompressed",
    "InvalidURL": "the address is not valid",
    "LocalProtocolError": "the address or a header has a character that HTTP does not allow",
    "PoolTimeout": "no connection was made in time",
    "ReadError": "the connection was lost",
    "ReadTimeout": "nothing was received in time",
    "RemoteProtocolError": "the response ended too early, or is not HTTP",
    "UnsupportedProtocol": "the address must begin with http:// or https://",
    "WriteError": "the connection was lost",
    "WriteTimeout": "nothing could be sent in time",
}
_BY_NUMBER = {
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.ENETUNREACH: "the network cannot be reached",
    errno.EACCES: "the permission is missing",
}


def connection_fault(fault: BaseException) -> str | None:
    """Return why a connection or a transfer failed; None if the exception is of another kind."""
    reasons = [reason for cause in _causes(fault) if (reason := _reason(cause))]
    return reasons[-1] if reasons else None  # the innermost cause is the most exact


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an exception and its causes, outer ones first."""
    for _ in range(10):
        if fault is None:
            return
        yield fault
        group = fault.exceptions[0] if isinstance(fault, BaseExceptionGroup) else None
        fault = group or fault.__cause__ or fault.__context__  # HTTP libraries suppress the context


def _reason(fault: BaseException) -> str | None:
    match fault:
        case ssl.SSLCertVerificationError():
            return f"the certificate is not accepted ({fault.verify_message})"
        case ssl.SSLError():
            return "no TLS connection could be made"
        case socket.gaierror() | UnicodeEncodeError():
            return "the name cannot be resolved"
        case ConnectionRefusedError():
            return "the connection was refused"
        case ConnectionError():
            return "the connection was lost"
        case TimeoutError():
            return "nothing was received in time"
        case FileNotFoundError() | PermissionError() | NotADirectoryError():
            return f"{fault.filename} does not exist, or may not be used"
        case UnicodeDecodeError():
            return "a received text is not UTF-8"
        case json.JSONDecodeError():
            return "a received text is no JSON"
        case OSError() if fault.errno in _BY_NUMBER:
            return _BY_NUMBER[fault.errno]
    return _BY_NAME.get(type(fault).__name__)
