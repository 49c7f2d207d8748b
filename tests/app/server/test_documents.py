"""Trusted documents by id and by hash, over HTTP and WebSocket, and the modes of the setting."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from app.errors import CannotStartError
from app.server.documents import TrustedDocuments
from app.settings import Settings
from tests.app_server import TRANSPORT, serving

VIEWER = "query Viewer { viewer { subject } }"
RUNS = "subscription Runs {\n  runs {\n    id\n  }\n}"
OTHER = "{ __typename }"
BY_ID = {sha1(text.encode()).hexdigest(): text for text in (VIEWER, RUNS)}
VIEWER_ID = next(iter(BY_ID))
SHA256 = sha256(VIEWER.encode()).hexdigest()
OTHER_SHA256 = sha256(OTHER.encode()).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file as graphql-codegen writes it: `persistedDocuments: true` of its client preset."""
    path = tmp_path / "persisted-documents.json"
    path.write_text(json.dumps(BY_ID, indent=2), "utf-8")
    return path


@asynccontextmanager
async def client_of(database_url: str, redis_url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    one = Settings(database_url=database_url, redis_url=redis_url, **settings)
    async with (
        serving(one) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client,
    ):
        yield client


async def post(client: httpx.AsyncClient, **members: Any) -> Any:
    return (await client.post("/graphql", json=members)).json()


def apq(hash: str) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": hash}}


def code_of(answer: Any) -> str:
    assert "data" not in answer
    code: str = answer["errors"][0]["extensions"]["code"]
    return code


async def test_permissive_documents_are_named_registered_or_sent(database_url: str, redis_url: str, file: Path) -> None:
    async with client_of(database_url, redis_url, documents="permissive", documents_file=file) as client:
        expected = {"data": {"viewer": {"subject": "local"}}}
        for document_id in (VIEWER_ID, f"sha256:{SHA256}", SHA256):
            assert await post(client, documentId=document_id) == expected
            answer = await client.get("/graphql", params={"documentId": document_id})
            assert answer.json() == expected and "ETag" in answer.headers
        assert await post(client, extensions=apq(SHA256)) == expected
        unknown = await post(client, extensions=apq(OTHER_SHA256))
        assert code_of(unknown) == "PERSISTED_QUERY_NOT_FOUND"
        assert unknown["errors"][0]["message"] == "PersistedQueryNotFound"
        typename = {"data": {"__typename": "Query"}}
        assert await post(client, query=OTHER, extensions=apq(OTHER_SHA256)) == typename
        assert await post(client, extensions=apq(OTHER_SHA256)) == typename
        assert await post(client, query=OTHER) == typename
        assert code_of(await post(client, query=OTHER, extensions=apq(SHA256))) == "VALIDATION"
        assert code_of(await post(client, query=OTHER, documentId=VIEWER_ID)) == "VALIDATION"
        assert code_of(await post(client, documentId="sha256:nope")) == "NOT_FOUND"
        assert code_of(await post(client, extensions={"persistedQuery": {"version": 2}})) == "VALIDATION"
        assert (await client.post("/graphql", json={"documentId": 1})).status_code == 400


async def test_strict_executes_trusted_documents_only(database_url: str, redis_url: str, file: Path) -> None:
    async with client_of(database_url, redis_url, documents="strict", documents_file=file) as client:
        expected = {"data": {"viewer": {"subject": "local"}}}
        assert await post(client, documentId=VIEWER_ID) == expected
        assert await post(client, extensions=apq(SHA256)) == expected
        assert await post(client, query=VIEWER) == expected
        assert code_of(await post(client, query=OTHER)) == "FORBIDDEN"
        refused = await post(client, query=OTHER, extensions=apq(OTHER_SHA256))
        assert code_of(refused) == "PERSISTED_QUERY_NOT_SUPPORTED"
        headers = {"Accept": "application/graphql-response+json"}
        answer = await client.post("/graphql", json={"query": OTHER}, headers=headers)
        assert answer.status_code == 403


async def test_without_the_setting_a_client_is_told_to_send_the_text(client: httpx.AsyncClient) -> None:
    assert code_of(await post(client, documentId=VIEWER_ID)) == "VALIDATION"
    unknown = await post(client, extensions=apq(OTHER_SHA256))
    assert unknown["errors"][0]["message"] == "PersistedQueryNotSupported"
    assert await post(client, query=OTHER, extensions=apq(OTHER_SHA256)) == {"data": {"__typename": "Query"}}


async def test_a_socket_names_documents_and_asks_for_the_cost(database_url: str, redis_url: str, file: Path) -> None:
    async with (
        client_of(database_url, redis_url, documents="strict", documents_file=file) as client,
        connect(f"ws://{client.base_url.netloc.decode()}/graphql", subprotocols=[TRANSPORT]) as socket,
    ):
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"

        async def answer(**payload: Any) -> Any:
            await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
            message = json.loads(await socket.recv())
            if message["type"] == "next":
                assert json.loads(await socket.recv())["type"] == "complete"
            return message["payload"]

        assert (await answer(documentId=VIEWER_ID))["data"] == {"viewer": {"subject": "local"}}
        cost = (await answer(documentId=VIEWER_ID, extensions={"cost": True}))["extensions"]["cost"]
        assert (cost["points"], cost["objects"]) == (1, 1)
        [error] = await answer(query=OTHER)
        assert error["extensions"]["code"] == "FORBIDDEN"
        [error] = await answer(documentId="nope")
        assert error["extensions"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": ""}', "\udcff"])
def test_a_file_of_another_form_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "documents.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CannotStartError, match="TREADLE_DOCUMENTS_FILE"):
        TrustedDocuments.read("strict", file)
    with pytest.raises(CannotStartError, match="cannot be read"):
        TrustedDocuments.read("permissive", tmp_path / "missing.json")
