"""Secrets as rows: set, used, rotated and deleted in any order; only a node call gets the values."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.errors import NodeFailure
from persistence.caller import Caller, Role
from persistence.db.database import Database, dsn
from persistence.problems import Limit, NotFound
from persistence.secrets import key_file
from persistence.secrets import store as secrets
from persistence.secrets.key_source import KeySource
from persistence.secrets.keyring import Key, Keyring
from persistence.secrets.resolver import SecretResolver, open_secrets
from persistence.secrets.rotation import BATCH, check, rotate
from persistence.secrets.store import Secret
from persistence.workflows import projects

VALUE = "sk-canary-81kQz0pLw2"


@pytest.fixture
def keys(tmp_path: Path) -> KeySource:
    source = KeySource(None, tmp_path / key_file.NAME)
    source.ensure()
    return source


@pytest.fixture
def values(database: Database, keys: KeySource) -> SecretResolver:
    return SecretResolver(database, keys)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(dsn(database_url))
    yield opened
    await opened.close()


class SecretWriter:
    """Sets and deletes secrets as the resolvers do, with one transaction for each call."""

    def __init__(self, database: Database, caller: Caller, keys: KeySource, project: str) -> None:
        self.database, self.caller, self.keys, self.project = database, caller, keys, project

    async def put(self, name: str, value: str = VALUE, project: str | None = None) -> Secret:
        async with self.database.begin() as connection:
            return await secrets.put(connection, self.caller, self.keys.keyring(), project or self.project, name, value)

    async def remove(self, name: str) -> str:
        async with self.database.begin() as connection:
            return await secrets.remove(connection, self.caller, self.project, name)

    async def list_all(self, caller: Caller | None = None) -> list[Secret]:
        async with self.database.connect() as connection:
            return await secrets.list_by_name(connection, caller or self.caller, [self.project])


@pytest.fixture
def store(database: Database, caller: Caller, keys: KeySource, project: str) -> SecretWriter:
    return SecretWriter(database, caller, keys, project)


async def test_a_secret_is_set_used_changed_and_deleted(
    store: SecretWriter, values: SecretResolver, project: str
) -> None:
    first = await store.put("key")
    assert await values.resolve(project, ["key"]) == {"key": VALUE}
    second = await store.put("key", "another value")
    assert (second.id, second.created_at, second.updated_by) == (first.id, first.created_at, "tester")
    assert second.updated_at > first.updated_at
    assert await values.resolve(project, ["key"]) == {"key": "another value"}
    assert await store.remove("key") == first.id
    with pytest.raises(NodeFailure, match="there is no secret 'key' in this project; set it with setSecret"):
        await values.resolve(project, ["key"])
    with pytest.raises(NotFound):
        await store.remove("key")


async def test_the_database_holds_no_value(store: SecretWriter, connection: asyncpg.Connection) -> None:
    await store.put("key")
    [row] = await connection.fetch("SELECT * FROM secrets")
    assert VALUE not in repr(dict(row))
    assert len(row["value"]) == 12 + len(VALUE) + 16


async def test_secrets_of_another_project_do_not_exist_for_a_caller(
    store: SecretWriter, values: SecretResolver, project: str, database: Database
) -> None:
    await store.put("key")
    async with database.begin() as connection:
        other = await projects.create(connection, "other")
    with pytest.raises(NodeFailure, match="no secret 'key'"):
        await values.resolve(other.id, ["key"])
    outsider = Caller("outsider", {other.id: Role.ADMIN})
    assert await store.list_all(outsider) == []
    async with database.begin() as connection:
        with pytest.raises(NotFound):
            await secrets.remove(connection, outsider, project, "key")
    assert [secret.name for secret in await store.list_all()] == ["key"]


@pytest.mark.parametrize("column", ["id", "name", "project_id"])
async def test_a_value_moved_to_another_row_cannot_be_decrypted(
    store: SecretWriter,
    values: SecretResolver,
    connection: asyncpg.Connection,
    project: str,
    column: str,
    database: Database,
) -> None:
    """An attacker who can write to the database cannot pass one secret off as another."""
    await store.put("key")
    async with database.begin() as transaction:
        other = await projects.create(transaction, "other")
    changed = {"id": "sec_00000000000000000000000000", "name": "elsewhere", "project_id": other.id}
    await connection.execute(f"UPDATE secrets SET {column} = $1", changed[column])
    name = changed["name"] if column == "name" else "key"
    with pytest.raises(NodeFailure, match="cannot be decrypted"):
        await values.resolve(other.id if column == "project_id" else project, [name])


async def test_concurrent_sets_and_deletes_leave_one_secret_or_none(store: SecretWriter) -> None:
    async def remove() -> None:
        with suppress(NotFound):
            await store.remove("key")

    for _ in range(5):
        await asyncio.gather(
            *(store.put("key", f"value {number}") for number in range(6)), *(remove() for _ in range(3))
        )
        assert len(await store.list_all()) <= 1


async def test_the_number_of_secrets_of_a_project_is_limited(
    store: SecretWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "MAX_SECRETS", 2)
    for name in ("a", "b"):
        await store.put(name)
    with pytest.raises(Limit):
        await store.put("c")
    await store.put("a", "a new value")


async def test_a_use_is_recorded_at_most_once_a_minute(
    store: SecretWriter, values: SecretResolver, connection: asyncpg.Connection, project: str
) -> None:
    assert (await store.put("key")).last_used_at is None
    await values.resolve(project, ["key"])
    [secret] = await store.list_all()
    assert secret.last_used_at is not None
    await asyncio.gather(*(values.resolve(project, ["key"]) for _ in range(20)))
    assert (await store.list_all())[0].last_used_at == secret.last_used_at
    await connection.execute("UPDATE secrets SET last_used_at = now() - interval '61 seconds'")
    await values.resolve(project, ["key"])
    last_used_at = (await store.list_all())[0].last_used_at
    assert last_used_at is not None
    assert last_used_at > secret.last_used_at


async def test_a_locked_row_delays_no_use(
    store: SecretWriter, values: SecretResolver, connection: asyncpg.Connection, project: str
) -> None:
    await store.put("key")
    async with connection.transaction(), asyncio.timeout(10):
        await connection.execute("SELECT 1 FROM secrets FOR UPDATE")
        assert await values.resolve(project, ["key"]) == {"key": VALUE}


async def test_a_lost_connection_delays_a_use(
    store: SecretWriter, values: SecretResolver, connection: asyncpg.Connection, project: str
) -> None:
    await store.put("key")
    for _ in range(5):
        using = asyncio.create_task(values.resolve(project, ["key"]))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert await using == {"key": VALUE}


async def test_a_missing_secret_is_found_before_any_use_is_recorded(
    store: SecretWriter, values: SecretResolver, project: str
) -> None:
    await store.put("key")
    with pytest.raises(NodeFailure, match="'absent'"):
        await values.resolve(project, ["key", "absent"])
    assert (await store.list_all())[0].last_used_at is None


async def test_a_rotation_encrypts_every_secret_again_in_batches(
    store: SecretWriter, values: SecretResolver, connection: asyncpg.Connection, project: str
) -> None:
    names = [f"key{number}" for number in range(BATCH + 20)]
    for name in names:
        await store.put(name, f"value of {name}")
    before = {secret.name: secret.updated_at for secret in await store.list_all()}
    store.keys.add()
    counts = await rotate(connection, store.keys.keyring())
    assert (counts.changed, counts.count, counts.undecryptable) == (BATCH + 20, BATCH + 20, [])
    new_only = Keyring(store.keys.keyring().keys[:1])
    assert (await check(connection, new_only)).undecryptable == []
    assert await values.resolve(project, names) == {name: f"value of {name}" for name in names}
    assert {secret.name: secret.updated_at for secret in await store.list_all()} == before
    assert (await rotate(connection, store.keys.keyring())).changed == 0


async def test_a_rotation_continues_after_an_interruption_with_the_rest(
    store: SecretWriter, connection: asyncpg.Connection, database_url: str, project: str
) -> None:
    for number in range(3 * BATCH):
        await store.put(f"key{number}")
    store.keys.add()
    other = await asyncpg.connect(dsn(database_url))
    rotating = asyncio.create_task(rotate(other, store.keys.keyring()))
    while not await connection.fetchval("SELECT count(*) FROM secrets WHERE key_id = $1", store.keys.keyring().ids[0]):
        assert not rotating.done()
    other.terminate()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await rotating
    half = await check(connection, store.keys.keyring())
    assert half.undecryptable == []
    assert 0 < half.by_key[store.keys.keyring().ids[0]] < 3 * BATCH
    rest = await rotate(connection, store.keys.keyring())
    assert rest.changed == half.by_key[store.keys.keyring().ids[1]]


async def test_secrets_can_be_set_and_used_while_they_are_rotated(
    store: SecretWriter, values: SecretResolver, connection: asyncpg.Connection, project: str
) -> None:
    names = [f"key{number}" for number in range(50)]
    for name in names:
        await store.put(name, f"{name} first")
    store.keys.add()
    rotating = asyncio.create_task(rotate(connection, store.keys.keyring()))
    for name in names:
        await store.put(name, f"{name} second")
        assert await values.resolve(project, [name]) == {name: f"{name} second"}
    await rotating
    assert await values.resolve(project, names) == {name: f"{name} second" for name in names}


async def test_processes_that_change_the_setting_one_after_the_other_can_read_all_secrets_at_any_time(
    database: Database, connection: asyncpg.Connection, caller: Caller, project: str, tmp_path: Path
) -> None:
    old, new = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
    steps = [old, f"{old},{new}", f"{new},{old}", "rotate", new]
    sources = {step: KeySource(step, tmp_path / "none") for step in steps if step != "rotate"}
    names = [f"key{number}" for number in range(20)]

    async def use(running: list[str], turn: int) -> None:
        """Let each process write a secret, and each process read it. Some still have the earlier setting."""
        for index, writing in enumerate(running):
            name, value = names[(turn + index) % len(names)], f"value {turn}.{index} of {writing[:4]}"
            await SecretWriter(database, caller, sources[writing], project).put(name, value)
            for reading in running:
                assert await SecretResolver(database, sources[reading]).resolve(project, [name]) == {name: value}

    for turn in range(len(names)):
        await use([old], turn)
    for before, after in itertools.pairwise(steps):
        if after == "rotate":
            rotating = asyncio.create_task(rotate(connection, sources[before].keyring()))
            for turn in range(20):
                await use([before, before], turn)
            assert (await rotating).undecryptable == []
            continue
        before = f"{new},{old}" if before == "rotate" else before
        for turn in range(5):
            await use([before, after, before], turn)
    assert (await check(connection, sources[new].keyring())).undecryptable == []
    assert len(await SecretResolver(database, sources[new]).resolve(project, names)) == len(names)


async def test_a_secret_that_cannot_be_decrypted_is_named_and_not_changed(
    store: SecretWriter,
    values: SecretResolver,
    connection: asyncpg.Connection,
    project: str,
    caller: Caller,
    database: Database,
) -> None:
    lost = Key.new()
    async with database.begin() as transaction:
        await secrets.put(transaction, caller, Keyring((lost,)), project, "lost", VALUE)
    await store.put("kept")
    store.keys.add()
    counts = await rotate(connection, store.keys.keyring())
    assert counts.changed == 1
    assert counts.undecryptable == [
        f"default/lost: it was encrypted under the key {lost.id}, which this host does not have"
    ]
    with pytest.raises(NodeFailure, match=f"'lost' cannot be decrypted: .* the key {lost.id}"):
        await values.resolve(project, ["lost"])
    await store.put("lost", "set again")
    assert await values.resolve(project, ["lost"]) == {"lost": "set again"}


async def test_only_the_first_start_creates_a_key(store: SecretWriter, database: Database, tmp_path: Path) -> None:
    elsewhere = KeySource(None, tmp_path / "elsewhere" / key_file.NAME)
    assert (await open_secrets(database, elsewhere)).keys.keyring().current is not None
    elsewhere.path.unlink()
    await store.put("key")
    with capture_logs() as logs:
        await open_secrets(database, elsewhere)
    assert not elsewhere.path.exists()
    assert [entry["event"] for entry in logs] == ["secrets.key_missing"]
    assert "give this process the keys of the others, in TREADLE_SECRET_KEY" in logs[0]["advice"]


async def test_a_second_host_with_a_key_of_its_own_says_which_keys_it_lacks(
    store: SecretWriter, database: Database, tmp_path: Path
) -> None:
    first, second = (KeySource(None, tmp_path / name / key_file.NAME) for name in ("first", "second"))
    for source in (first, second):
        await open_secrets(database, source)  # No secret is stored, so each host makes a key.
    await store.put("key")
    with capture_logs() as logs:
        await open_secrets(database, second)
    [entry] = logs
    assert entry["event"] == "secrets.key_missing"
    assert entry["have"] == list(second.keyring().ids)
    assert entry["have"] != entry["keys"]


async def test_a_start_with_a_read_only_folder_succeeds_without_a_key(database: Database) -> None:
    with capture_logs() as logs:
        await open_secrets(database, KeySource(None, Path("/proc/treadle") / key_file.NAME))
    assert [entry["event"] for entry in logs] == ["secrets.no_key"]
    assert "set TREADLE_SECRET_KEY instead" in logs[0]["problem"]
