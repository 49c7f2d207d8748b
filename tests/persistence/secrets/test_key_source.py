"""Keys of secrets: made once by whoever comes first, for their owner alone, and noticed when they change."""

import base64
import multiprocessing
import os
import stat
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from persistence.secrets import key_file
from persistence.secrets.key_source import Keys
from persistence.secrets.keyring import Key, KeyProblem, Keyring, Undecryptable, parse_keys

GOOD = base64.b64encode(bytes(32)).decode()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ensured(path: Path, gate: Connection, told: Connection) -> None:
    gate.recv()
    keys = Keys(None, path)
    keys.ensure()
    told.send(keys.ring().ids)


def test_processes_that_start_at_once_use_one_key(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    path = tmp_path / "data" / key_file.NAME
    pipes = [(spawn.Pipe(), spawn.Pipe()) for _ in range(12)]
    processes = [spawn.Process(target=ensured, args=(path, gate[0], told[1])) for gate, told in pipes]
    for process in processes:
        process.start()
    for gate, _ in pipes:
        gate[1].send(True)
    told = [told[0].recv() for _, told in pipes]
    for process in processes:
        process.join()
    assert len({tuple(ids) for ids in told}) == 1
    assert len(told[0]) == 1
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Keys(None, path := tmp_path / key_file.NAME).ensure()
        assert mode_of(path) == 0o600
        Keys(None, path).add()
        assert mode_of(path) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys = Keys(None, path := tmp_path / key_file.NAME)
    keys.ensure()
    path.chmod(mode)
    with pytest.raises(KeyProblem, match=f"chmod 600 {path}"):
        keys.ring()
    path.chmod(0o600)
    assert keys.ring().current is not None


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", "ü" * 44, base64.b64encode(bytes(31)).decode()])
def test_a_file_without_a_key_is_refused_without_telling_what_is_in_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / key_file.NAME
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyProblem) as wrong:
        Keys(None, path).ring()
    assert str(path) in str(wrong.value)
    assert not text.strip("# \n") or text.strip() not in str(wrong.value)


def test_a_key_that_is_there_is_kept(tmp_path: Path) -> None:
    keys = Keys(None, tmp_path / key_file.NAME)
    keys.ensure()
    before = keys.ring().ids
    Keys(None, keys.path).ensure()
    assert Keys(None, keys.path).ring().ids == before


def test_a_new_key_comes_first_and_is_noticed_by_those_who_run(tmp_path: Path) -> None:
    running = Keys(None, tmp_path / key_file.NAME)
    running.ensure()
    before = running.ring().ids
    Keys(None, running.path).add()
    after = running.ring().ids
    assert len(after) == 2
    assert after[1:] == before


def test_a_file_that_is_gone_takes_its_keys_along(tmp_path: Path) -> None:
    """Whoever went on with it would encrypt what nobody can read after a restart."""
    keys = Keys(None, tmp_path / key_file.NAME)
    keys.ensure()
    assert keys.ring().current is not None
    keys.path.unlink()
    assert keys.ring().current is None


def test_configured_keys_come_first_and_no_file_is_made(tmp_path: Path) -> None:
    old, new = Key.new(), Key.new()
    keys = Keys(f"{new.text}, {old.text}", tmp_path / key_file.NAME)
    keys.ensure()
    assert keys.ring().ids == [new.id, old.id]
    assert not keys.path.exists()
    Keys(None, keys.path).ensure()
    assert keys.ring().ids[:2] == [new.id, old.id]
    assert len(keys.ring().ids) == 3


@pytest.mark.parametrize("text", ["nonsense", "aGk=", f"{GOOD},", f"{GOOD} {GOOD}"])
def test_a_wrong_setting_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyProblem) as wrong:
        Keys(text, tmp_path / "none")
    assert str(wrong.value).startswith("TREADLE_SECRET_KEY: key ")
    assert text.strip(",") not in str(wrong.value)


def test_base64_is_read_in_all_its_ways() -> None:
    key = Key.new()
    ways = [key.text, key.text.rstrip("="), base64.urlsafe_b64encode(key.secret).decode(), f" {key.text}\n"]
    assert {found.id for found in parse_keys(ways, "here")} == {key.id}


def test_a_key_does_not_show_itself() -> None:
    key = Key.new()
    assert key.text not in repr(Keyring((key,)))
    assert repr(key.secret) not in repr(key)


def test_a_value_comes_back_under_its_key_and_at_its_place_alone() -> None:
    old, new = Key.new(), Key.new()
    key_id, data = Keyring((old,)).encrypt("värdet\n", "here")
    assert (key_id, b"rdet" in data) == (old.id, False)
    assert Keyring((new, old)).decrypt(key_id, data, "here") == "värdet\n"
    for ring, place, changed in (
        (Keyring((new,)), "here", data),
        (Keyring((old,)), "there", data),
        (Keyring((old,)), "here", data[:-1]),
        (Keyring((old,)), "here", bytes([data[0] ^ 1]) + data[1:]),
        (Keyring((old,)), "here", b""),
    ):
        with pytest.raises(Undecryptable):
            ring.decrypt(key_id, changed, place)


def test_the_same_value_never_looks_the_same() -> None:
    ring = Keyring((Key.new(),))
    assert len({ring.encrypt("value", "here")[1] for _ in range(100)}) == 100
