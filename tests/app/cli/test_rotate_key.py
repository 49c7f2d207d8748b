"""What a host does about keys: `treadle rotate-key`, what `treadle doctor` says, and what stops a start."""

from pathlib import Path

import asyncpg
import pytest

from app.cli.rotate_key import examined, rotated
from app.settings import Settings
from persistence.caller import Caller
from persistence.db.database import Database, dsn
from persistence.secrets import key_file, store
from persistence.secrets.key_source import Keys
from persistence.secrets.keyring import Key, KeyProblem, Keyring
from persistence.secrets.rotation import look
from tests.app.commands import Treadle


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, data_dir=tmp_path)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(None, tmp_path / key_file.NAME)
    made.ensure()
    return made


async def put(database: Database, caller: Caller, project: str, ring: Keyring, *names: str) -> None:
    async with database.begin() as connection:
        for name in names:
            await store.put(connection, caller, ring, project, name, "a value of it")


async def under(database_url: str, ring: Keyring) -> dict[str, int]:
    connection = await asyncpg.connect(dsn(database_url))
    try:
        return dict((await look(connection, ring)).by_key)
    finally:
        await connection.close()


def kept_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_each_rotation_makes_a_new_key_and_keeps_the_old_ones(
    settings: Settings, keys: Keys, database: Database, database_url: str, caller: Caller, project: str
) -> None:
    await put(database, caller, project, keys.ring(), "a", "b")
    [first] = keys.ring().ids
    _, told = await rotated(settings)
    second = keys.ring().ids[0]
    assert keys.ring().ids == [second, first]
    assert told == f"2 of 2 secrets encrypted anew, under the key {second} of {keys.path}"
    await rotated(settings)
    assert keys.ring().ids[1:] == [second, first]
    assert await under(database_url, keys.ring()) == {keys.ring().ids[0]: 2}


async def test_a_rotation_that_was_stopped_makes_no_further_key(
    settings: Settings, keys: Keys, database: Database, database_url: str, caller: Caller, project: str
) -> None:
    await put(database, caller, project, keys.ring(), "a", "b")
    keys.add()
    await put(database, caller, project, keys.ring(), "c")
    before = keys.ring().ids
    looked, _ = await rotated(settings)
    assert (looked.changed, looked.count, keys.ring().ids) == (2, 3, before)
    assert await under(database_url, keys.ring()) == {before[0]: 3}


async def test_configured_keys_are_changed_by_whoever_set_them(
    settings: Settings, database: Database, database_url: str, caller: Caller, project: str, tmp_path: Path
) -> None:
    old, new = Key.new(), Key.new()
    await put(database, caller, project, Keyring((old,)), "a")
    changed = Settings(**{**settings.model_dump(), "secret_key": f"{new.text},{old.text}"})
    _, told = await rotated(changed)
    assert told == f"1 of 1 secrets encrypted anew, under the key {new.id} of TREADLE_SECRET_KEY"
    assert await under(database_url, Keyring((new,))) == {new.id: 1}
    assert kept_in(tmp_path) == []


async def test_from_a_file_to_the_setting(
    settings: Settings, keys: Keys, database: Database, database_url: str, caller: Caller, project: str
) -> None:
    await put(database, caller, project, keys.ring(), "a")
    new = Key.new()
    await rotated(Settings(**{**settings.model_dump(), "secret_key": new.text}))
    assert await under(database_url, Keyring((new,))) == {new.id: 1}


async def test_without_a_key_there_is_nothing_to_rotate(settings: Settings) -> None:
    with pytest.raises(KeyProblem, match="no key yet"):
        await rotated(settings)


async def test_the_doctor_makes_no_key(settings: Settings, tmp_path: Path) -> None:
    assert await examined(settings) == (
        True,
        f"no key yet: the first start makes {tmp_path / key_file.NAME}; no secrets",
    )
    assert kept_in(tmp_path) == []


async def test_the_doctor_says_which_key_is_in_use_and_whether_all_can_be_decrypted(
    settings: Settings, keys: Keys, database: Database, caller: Caller, project: str
) -> None:
    key = f"key {keys.ring().ids[0]} of {keys.path}"
    assert await examined(settings) == (True, f"{key}; no secrets")
    await put(database, caller, project, keys.ring(), "a", "b")
    assert await examined(settings) == (True, f"{key}; 2 secrets, all of which can be decrypted")
    old = keys.ring().ids[0]
    keys.add()
    is_well, told = await examined(settings)
    assert is_well
    assert told.endswith("; 2 of them under older keys: run `treadle rotate-key`")
    await rotated(settings)
    is_well, told = await examined(settings)
    assert told.endswith(f"; no secret needs the older keys {old}, but backups may")


async def test_the_doctor_names_what_cannot_be_decrypted(
    settings: Settings, keys: Keys, database: Database, caller: Caller, project: str
) -> None:
    lost = Key.new()
    await put(database, caller, project, Keyring((lost,)), *(f"key{number}" for number in range(7)))
    is_well, told = await examined(settings)
    assert not is_well
    assert "7 of 7 secrets cannot be decrypted" in told
    assert f"default/key0: it was encrypted under the key {lost.id}, which is not here" in told
    assert "key6" not in told


@pytest.mark.parametrize("command", ["server", "worker", "doctor", "rotate-key"])
def test_a_key_file_that_others_can_read_is_one_clear_line(
    treadle: Treadle, database_url: str, redis_url: str, tmp_path: Path, command: str
) -> None:
    Keys(None, tmp_path / key_file.NAME).ensure()
    (tmp_path / key_file.NAME).chmod(0o644)
    stores = {"TREADLE_DATABASE_URL": database_url, "TREADLE_REDIS_URL": redis_url}
    process = treadle(command, TREADLE_DATA_DIR=str(tmp_path), **stores)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "others may read it (mode 0644); `chmod 600" in told
    assert "Traceback" not in told


def test_a_key_is_never_repeated(treadle: Treadle, tmp_path: Path) -> None:
    wrong = Key.new().text[:-4]
    for command in ("worker", "doctor"):
        process = treadle(command, TREADLE_DATA_DIR=str(tmp_path), TREADLE_SECRET_KEY=wrong)
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "TREADLE_SECRET_KEY: key 1 is not 32 random bytes in base64" in told
        assert wrong not in told
