"""Keys of secrets: `treadle rotate-key`, the doctor's report, and errors that stop a start."""

from pathlib import Path

import asyncpg
import pytest

from app.cli.rotate_key import check_secrets, rotate_keys
from app.settings import Settings
from persistence.caller import Caller
from persistence.db.database import Database, dsn
from persistence.secrets import key_file, store
from persistence.secrets.key_source import KeySource
from persistence.secrets.keyring import Key, KeyProblem, Keyring
from persistence.secrets.rotation import check
from tests.app.commands import Treadle


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, data_dir=tmp_path)


@pytest.fixture
def keys(tmp_path: Path) -> KeySource:
    keys = KeySource(None, tmp_path / key_file.NAME)
    keys.ensure()
    return keys


async def put(database: Database, caller: Caller, project: str, ring: Keyring, *names: str) -> None:
    async with database.begin() as connection:
        for name in names:
            await store.put(connection, caller, ring, project, name, "a value of it")


async def secrets_by_key(database_url: str, ring: Keyring) -> dict[str, int]:
    connection = await asyncpg.connect(dsn(database_url))
    try:
        return dict((await check(connection, ring)).by_key)
    finally:
        await connection.close()


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_each_rotation_adds_a_new_key_and_keeps_the_old_ones(
    settings: Settings, keys: KeySource, database: Database, database_url: str, caller: Caller, project: str
) -> None:
    await put(database, caller, project, keys.keyring(), "a", "b")
    [first] = keys.keyring().ids
    _, text = await rotate_keys(settings)
    second = keys.keyring().ids[0]
    assert keys.keyring().ids == [second, first]
    assert text == f"2 of 2 secrets are now encrypted under key {second} of {keys.path}"
    await rotate_keys(settings)
    assert keys.keyring().ids[1:] == [second, first]
    assert await secrets_by_key(database_url, keys.keyring()) == {keys.keyring().ids[0]: 2}


async def test_a_resumed_rotation_adds_no_further_key(
    settings: Settings, keys: KeySource, database: Database, database_url: str, caller: Caller, project: str
) -> None:
    await put(database, caller, project, keys.keyring(), "a", "b")
    keys.add()
    await put(database, caller, project, keys.keyring(), "c")
    before = keys.keyring().ids
    counts, _ = await rotate_keys(settings)
    assert (counts.changed, counts.count, keys.keyring().ids) == (2, 3, before)
    assert await secrets_by_key(database_url, keys.keyring()) == {before[0]: 3}


async def test_a_rotation_uses_configured_keys_and_creates_no_file(
    settings: Settings, database: Database, database_url: str, caller: Caller, project: str, tmp_path: Path
) -> None:
    old, new = Key.new(), Key.new()
    await put(database, caller, project, Keyring((old,)), "a")
    changed = Settings(**{**settings.model_dump(), "secret_key": f"{new.text},{old.text}"})
    _, text = await rotate_keys(changed)
    assert text == f"1 of 1 secrets are now encrypted under key {new.id} of TREADLE_SECRET_KEY"
    assert await secrets_by_key(database_url, Keyring((new,))) == {new.id: 1}
    assert files_in(tmp_path) == []


async def test_a_rotation_moves_secrets_from_a_key_file_to_the_setting(
    settings: Settings, keys: KeySource, database: Database, database_url: str, caller: Caller, project: str
) -> None:
    await put(database, caller, project, keys.keyring(), "a")
    new = Key.new()
    await rotate_keys(Settings(**{**settings.model_dump(), "secret_key": new.text}))
    assert await secrets_by_key(database_url, Keyring((new,))) == {new.id: 1}


async def test_a_rotation_without_a_key_is_refused(settings: Settings) -> None:
    with pytest.raises(KeyProblem, match="no key yet"):
        await rotate_keys(settings)


async def test_the_doctor_creates_no_key(settings: Settings, tmp_path: Path) -> None:
    assert await check_secrets(settings) == (
        True,
        f"no key yet: the first start creates {tmp_path / key_file.NAME}; no secrets",
    )
    assert files_in(tmp_path) == []


async def test_the_doctor_names_the_key_and_reports_whether_all_secrets_can_be_decrypted(
    settings: Settings, keys: KeySource, database: Database, caller: Caller, project: str
) -> None:
    key = f"key {keys.keyring().ids[0]} of {keys.path}"
    assert await check_secrets(settings) == (True, f"{key}; no secrets")
    await put(database, caller, project, keys.keyring(), "a", "b")
    assert await check_secrets(settings) == (True, f"{key}; 2 secrets, all of which can be decrypted")
    old = keys.keyring().ids[0]
    keys.add()
    has_passed, text = await check_secrets(settings)
    assert has_passed
    assert text.endswith("; 2 of them under older keys: run `treadle rotate-key`")
    await rotate_keys(settings)
    has_passed, text = await check_secrets(settings)
    assert text.endswith(f"; no secret needs the older keys {old}, but backups may")


async def test_the_doctor_names_secrets_that_cannot_be_decrypted(
    settings: Settings, keys: KeySource, database: Database, caller: Caller, project: str
) -> None:
    lost = Key.new()
    await put(database, caller, project, Keyring((lost,)), *(f"key{number}" for number in range(7)))
    has_passed, text = await check_secrets(settings)
    assert not has_passed
    assert "7 of 7 secrets cannot be decrypted" in text
    assert f"default/key0: it was encrypted under the key {lost.id}, which this host does not have" in text
    assert "key6" not in text


@pytest.mark.parametrize("command", ["server", "worker", "doctor", "rotate-key"])
def test_a_key_file_that_other_users_can_read_is_refused(
    treadle: Treadle, database_url: str, redis_url: str, tmp_path: Path, command: str
) -> None:
    KeySource(None, tmp_path / key_file.NAME).ensure()
    (tmp_path / key_file.NAME).chmod(0o644)
    stores = {"TREADLE_DATABASE_URL": database_url, "TREADLE_REDIS_URL": redis_url}
    process = treadle(command, TREADLE_DATA_DIR=str(tmp_path), **stores)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "others may read it (mode 0644); `chmod 600" in text
    assert "Traceback" not in text


def test_a_message_never_repeats_a_key(treadle: Treadle, tmp_path: Path) -> None:
    invalid_key = Key.new().text[:-4]
    for command in ("worker", "doctor"):
        process = treadle(command, TREADLE_DATA_DIR=str(tmp_path), TREADLE_SECRET_KEY=invalid_key)
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "TREADLE_SECRET_KEY: key 1 is not 32 random bytes in base64" in text
        assert invalid_key not in text
