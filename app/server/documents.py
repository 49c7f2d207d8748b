"""Trusted documents: operations that clients name by an id instead of sending their text.

A file has the texts by id, as graphql-codegen writes it. Two forms of requests name one: `documentId`
(GraphQL over HTTP, appendix on persisted documents), and automatic persisted queries (APQ), where a
client sends the SHA-256 of a text, and the text itself if the server does not know it. Texts of APQ
are in memory only: after a restart, clients send them again.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from cachetools import LRUCache
from graphql import GraphQLError

from app.errors import CannotStartError
from persistence.problems import ProblemCode

Mode = Literal["off", "permissive", "strict"]
MAX_REGISTERED = 8 * 1024 * 1024
"""Characters of all texts that clients have registered by APQ; the least recently used are dropped."""
PREFIX = "sha256:"
NOT_SUPPORTED = GraphQLError("PersistedQueryNotSupported", extensions={"code": "PERSISTED_QUERY_NOT_SUPPORTED"})
"""Clients of APQ know these two messages, and then send the text, without the hash or with it."""
NOT_FOUND = GraphQLError("PersistedQueryNotFound", extensions={"code": "PERSISTED_QUERY_NOT_FOUND"})


class DocumentRefused(Exception):
    """The request names no document that this server executes; `error` says why."""

    def __init__(self, error: GraphQLError) -> None:
        super().__init__(error.message)
        self.error = error


class DocumentFileError(CannotStartError):
    """The file of trusted documents cannot be read. The message says why."""


class TrustedDocuments:
    """The documents that clients may name, and whether they may send others.

    Args:
        mode: `off`: clients send texts only. `permissive`: they may also name trusted documents, and
            register texts by APQ. `strict`: only trusted documents are executed.
        texts: The trusted documents by id.
    """

    def __init__(self, mode: Mode = "off", texts: Mapping[str, str] | None = None) -> None:
        self._mode = mode
        self._trusted = dict(texts or {})
        self._trusted |= {digest(text): text for text in self._trusted.values()}
        self._registered: LRUCache[str, str] = LRUCache(MAX_REGISTERED, getsizeof=len)

    @classmethod
    def read(cls, mode: Mode, file: Path | None) -> "TrustedDocuments":
        """Read the file that graphql-codegen writes: an object of texts by id.

        Raises:
            DocumentFileError: The file cannot be read, or has another form.
        """
        return cls(mode) if file is None or mode == "off" else cls(mode, _texts(file))

    def text_of(self, members: Mapping[str, Any]) -> str | None:
        """Return the text of the operation of a request, or None if it has neither text nor id.

        Args:
            members: The members of the request, whose types have been checked.

        Raises:
            DocumentRefused: The document is unknown, or this server does not execute it.
        """
        query, document_id = members.get("query") or None, members.get("documentId") or None
        persisted = (members.get("extensions") or {}).get("persistedQuery")
        if document_id is not None and query is not None:
            raise _refused("Send either `query` or `documentId`, not both.", ProblemCode.VALIDATION)
        if document_id is not None:
            return self._named(document_id)
        if isinstance(persisted, Mapping):
            return self._persisted(persisted, query)
        if self._mode == "strict" and query is not None and digest(query) not in self._trusted:
            raise _refused(
                "This server executes trusted documents only (TREADLE_DOCUMENTS is strict): send the `documentId` of "
                "one instead of a text.",
                ProblemCode.FORBIDDEN,
            )
        return query

    def _named(self, document_id: str) -> str:
        if self._mode == "off":
            raise _refused(
                "This server has no trusted documents (TREADLE_DOCUMENTS is off): send the text as `query`.",
                ProblemCode.VALIDATION,
            )
        text = self._trusted.get(document_id.removeprefix(PREFIX)) or self._trusted.get(document_id)
        if text is None:
            raise _refused(
                f"There is no trusted document with the id {document_id[:100]!r}. Add it to the file of the setting "
                "TREADLE_DOCUMENTS_FILE, and restart the server.",
                ProblemCode.NOT_FOUND,
            )
        return text

    def _persisted(self, persisted: Mapping[str, Any], query: str | None) -> str:
        """Return the text of an automatic persisted query, which is registered if the text comes with it."""
        wanted = persisted.get("sha256Hash")
        if not isinstance(wanted, str) or persisted.get("version") != 1:
            raise _refused(
                "`extensions.persistedQuery` must be {version: 1, sha256Hash: …}, with the hash in hexadecimal digits.",
                ProblemCode.VALIDATION,
            )
        if self._mode == "off":
            if query is not None:
                return query
            raise DocumentRefused(NOT_SUPPORTED)
        if query is not None and digest(query) != wanted.lower():
            raise _refused("`sha256Hash` is not the SHA-256 of `query`.", ProblemCode.VALIDATION)
        if (text := self._trusted.get(wanted.lower())) is not None:
            return text
        if self._mode == "strict":
            raise DocumentRefused(NOT_SUPPORTED)
        return self._register(wanted.lower(), query)

    def _register(self, wanted: str, query: str | None) -> str:
        if query is None:
            if wanted not in self._registered:
                raise DocumentRefused(NOT_FOUND)
            return self._registered[wanted]
        if len(query) <= MAX_REGISTERED // 64:  # A longer text is executed all the same.
            self._registered[wanted] = query
        return query


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hexadecimal digits."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _texts(file: Path) -> dict[str, str]:
    try:
        texts = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DocumentFileError(f"{file} (TREADLE_DOCUMENTS_FILE) cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DocumentFileError(f"{file} (TREADLE_DOCUMENTS_FILE) is not JSON in UTF-8") from error
    if not isinstance(texts, dict) or not all(isinstance(text, str) and text for text in texts.values()):
        raise DocumentFileError(
            f"{file} (TREADLE_DOCUMENTS_FILE) is no object of texts by id, as graphql-codegen writes it"
        )
    return texts


def _refused(message: str, code: ProblemCode) -> DocumentRefused:
    return DocumentRefused(GraphQLError(message, extensions={"code": code}))
