"""What messages and outputs of an `http` node may show of an address, if its template names secrets.

A parser of URLs changes a secret: it writes hosts in lower case, cuts them at `/` and encodes them
(RFC 3986, RFC 5891). Redaction searches for the secret as it is, so such parts are not shown at all.
Pure.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from engine.expressions.lexer import segments
from engine.values.redaction import MARK

HIDDEN = "the address in `url`"
OTHER = "another address, to which the target leads"
_MENTIONS_SECRETS = re.compile(r"\bsecrets\b")
_END_OF_AUTHORITY = re.compile(r"[/?#\\]")


@dataclass(frozen=True, slots=True)
class VisibleAddress:
    """The parts of the addresses of one node that may be shown.

    Attributes:
        origin: The origin of the node's own address, such as `https://example.com`.
        is_host_hidden: Whether the template of the host names a secret.
        is_path_hidden: Whether the template of the address names a secret anywhere.
        is_query_secret: Whether `query` names a secret. The target may repeat it in addresses.
    """

    origin: str = ""
    is_host_hidden: bool = False
    is_path_hidden: bool = False
    is_query_secret: bool = False

    @classmethod
    def of(cls, template: str, query: dict[str, Any], url: str) -> "VisibleAddress":
        """Decide what may be shown.

        Args:
            template: The template of `url`.
            query: The templates of `query`.
            url: The rendered address.
        """
        return cls(
            origin_of(url), mentions_secrets(_authority(template)), mentions_secrets(template), mentions_secrets(query)
        )

    def label(self, method: str, url: str) -> str:
        """Return the name of a request for messages: without query, at most 300 characters."""
        parts = urlsplit(url)
        origin, is_own = origin_of(url), origin_of(url) == self.origin
        if not (self.is_path_hidden or self.is_query_secret):
            return f"{method} {origin}{parts.path}"[:300]
        if not is_own:
            return f"{method} {OTHER}"
        if self.is_host_hidden:
            return f"{method} {HIDDEN}"
        return f"{method} {origin}/{MARK}"[:300] if self.is_path_hidden else f"{method} {origin}{parts.path}"[:300]

    def host(self, host: str) -> str:
        """Return the name of a host for messages."""
        if not (self.is_path_hidden or self.is_query_secret):
            return host
        if urlsplit(self.origin).hostname != host.lower():
            return "its host"
        return "the host in `url`" if self.is_host_hidden else host

    def output(self, url: str) -> str:
        """Return an address for the output of the node."""
        return MARK if self.is_host_hidden else url


SHOW_ALL = VisibleAddress()


def mentions_secrets(templates: Any) -> bool:
    """Tell whether templates name a secret. A text that only looks like it counts too."""
    return _MENTIONS_SECRETS.search(str(templates)) is not None


def origin_of(url: str) -> str:
    """Return the scheme, the host and the port of an address. Raises ValueError for one that is not valid."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _authority(template: str) -> str:
    """Return the template up to the end of the host: to the first `/` behind `//` and outside of code."""
    plain = list(template)
    for segment in segments(template):
        for index in range(segment.start, segment.end):
            plain[index] = "x"
    text = "".join(plain)
    start = text.find("://")
    end = None if start < 0 else _END_OF_AUTHORITY.search(text, start + 3)
    return template if end is None else template[: end.start()]
