"""Keys of secrets: created once, readable by their owner only, and read again when they change."""

import base64
import multiprocessing
import os
import stat
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from persistence.secrets import key_file
from persistence.secrets.key_source import KeySource
from persistence.secrets.keyring import DecryptionError, Key, KeyProblem, Keyring, parse_keys

GOOD = base64.b64encode(bytes(32)).decode()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ensure_key(path: Path, gate: Connection, results: Connection) -> None:
    gate.recv()
    keys = KeySource(None, path)
    keys.ensure()
    results.send(keys.keyring().ids)


def test_processes_that_start_at_once_use_one_key(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    path = tmp_path / "data" / key_file.NAME
    pipes = [(fork.Pipe(), fork.Pipe()) for _ in range(12)]
    processes = [fork.Process(target=ensure_key, args=(path, gate[0], results[1])) for gate, results in pipes]
    for process in processes:
        process.start()
    for gate, _ in pipes:
        gate[1].send(True)
    key_ids = [results[0].recv() for _, results in pipes]
    for process in processes:
        process.join()
    assert len({tuple(ids) for ids in key_ids}) == 1
    assert len(key_ids[0]) == 1
    assert list(path.parent.iterdir()) == [path]


def test_only_the_owner_can_read_the_file_under_every_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeySource(None, path := tmp_path / key_file.NAME).ensure()
        assert mode_of(path) == 0o600
        KeySource(None, path).add()
        assert mode_of(path) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys = KeySource(None, path := tmp_path / key_file.NAME)
    keys.ensure()
    path.chmod(mode)
    with pytest.raises(KeyProblem, match=f"chmod 600 {path}"):
        keys.keyring()
    path.chmod(0o600)
    assert keys.keyring().current is not None


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", "ü" * 44, base64.b64encode(bytes(31)).decode()])
def test_a_file_without_a_key_is_refused_and_its_content_is_not_repeated(tmp_path: Path, text: str) -> None:
    path = tmp_path / key_file.NAME
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyProblem) as error:
        KeySource(None, path).keyring()
    assert str(path) in str(error.value)
    assert not text.strip("# \n") or text.strip() not in str(error.value)


def test_an_existing_key_stays_unchanged(tmp_path: Path) -> None:
    keys = KeySource(None, tmp_path / key_file.NAME)
    keys.ensure()
    before = keys.keyring().ids
    KeySource(None, keys.path).ensure()
    assert KeySource(None, keys.path).keyring().ids == before


def test_a_new_key_comes_first_and_running_processes_use_it(tmp_path: Path) -> None:
    running = KeySource(None, tmp_path / key_file.NAME)
    running.ensure()
    before = running.keyring().ids
    KeySource(None, running.path).add()
    after = running.keyring().ids
    assert len(after) == 2
    assert after[1:] == before


def test_the_keys_of_a_deleted_file_are_no_longer_used(tmp_path: Path) -> None:
    """A process that went on with them would encrypt values that cannot be read after a restart."""
    keys = KeySource(None, tmp_path / key_file.NAME)
    keys.ensure()
    assert keys.keyring().current is not None
    keys.path.unlink()
    assert keys.keyring().current is None


def test_configured_keys_come_first_and_no_file_is_created(tmp_path: Path) -> None:
    old, new = Key.new(), Key.new()
    keys = KeySource(f"{new.text}, {old.text}", tmp_path / key_file.NAME)
    keys.ensure()
    assert keys.keyring().ids == [new.id, old.id]
    assert not keys.path.exists()
    KeySource(None, keys.path).ensure()
    assert keys.keyring().ids[:2] == [new.id, old.id]
    assert len(keys.keyring().ids) == 3


@pytest.mark.parametrize("text", ["nonsense", "aGk=", f"{GOOD},", f"{GOOD} {GOOD}"])
def test_an_invalid_setting_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyProblem) as error:
        KeySource(text, tmp_path / "none")
    assert str(error.value).startswith("TREADLE_SECRET_KEY: key ")
    assert text.strip(",") not in str(error.value)


def test_all_variants_of_base64_are_accepted() -> None:
    key = Key.new()
    variants = [key.text, key.text.rstrip("="), base64.urlsafe_b64encode(key.secret).decode(), f" {key.text}\n"]
    assert {parsed.id for parsed in parse_keys(variants, "here")} == {key.id}


def test_the_repr_of_a_key_does_not_contain_it() -> None:
    key = Key.new()
    assert key.text not in repr(Keyring((key,)))
    assert repr(key.secret) not in repr(key)


def test_a_value_is_decrypted_only_with_its_key_and_its_associated_data() -> None:
    old, new = Key.new(), Key.new()
    key_id, data = Keyring((old,)).encrypt("värdet\n", "here")
    assert (key_id, b"rdet" in data) == (old.id, False)
    assert Keyring((new, old)).decrypt(key_id, data, "here") == "värdet\n"
    for keyring, associated_data, changed in (
        (Keyring((new,)), "here", data),
        (Keyring((old,)), "there", data),
        (Keyring((old,)), "here", data[:-1]),
        (Keyring((old,)), "here", bytes([data[0] ^ 1]) + data[1:]),
        (Keyring((old,)), "here", b""),
    ):
        with pytest.raises(DecryptionError):
            keyring.decrypt(key_id, changed, associated_data)


def test_one_value_has_a_different_ciphertext_each_time() -> None:
    ring = Keyring((Key.new(),))
    assert len({ring.encrypt("value", "here")[1] for _ in range(100)}) == 100
