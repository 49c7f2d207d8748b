"""The key file: one key a line, the current one first, readable by its owner only.

It is created whole or not at all, at the first start. Any number of processes may try to create it
at once: one succeeds, and all use its key. Used by the key source.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from persistence.secrets.keyring import Key, KeyProblem, parse_keys

NAME = "secret.key"
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read(path: Path) -> tuple[Key, ...]:
    """Read the keys; none if there is no file.

    Raises:
        KeyProblem: Other users may read the file, it cannot be read, or it holds no valid key.
    """
    try:
        with path.open(encoding="ascii") as file:
            if (mode := stat.S_IMODE(os.fstat(file.fileno()).st_mode)) & OTHERS:
                raise KeyProblem(f"{path}: others may read it (mode {mode:04o}); `chmod 600 {path}`")
            lines = [line.strip() for line in file]
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyProblem(f"{path}: cannot be read: {error}") from error
    keys = tuple(parse_keys((line for line in lines if line and not line.startswith("#")), str(path)))
    if not keys:
        raise KeyProblem(f"{path}: contains no key")
    return keys


def create(path: Path) -> None:
    """Create the file with a new key, unless another process was faster. Raises KeyProblem."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _write_temporary(path, [Key.new()])
        try:
            with suppress(FileExistsError):
                os.link(temporary, path)  # The name appears with the whole content, or not at all.
        finally:
            temporary.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise KeyProblem(f"{path}: cannot be created: {error}; set TREADLE_SECRET_KEY instead") from error


def add_key(path: Path) -> None:
    """Put a new key before the others. A reader at the same time gets the old file or the new one.

    Raises:
        KeyProblem: The file cannot be read or written.
    """
    try:
        with _exclusive_lock(path.parent):
            keys, owner = read(path), path.stat()
            temporary = _write_temporary(path, [Key.new(), *keys])
            os.chown(temporary, owner.st_uid, owner.st_gid)
            temporary.replace(path)
            _sync_folder(path.parent)
    except OSError as error:
        raise KeyProblem(f"{path}: cannot be written: {error}") from error


@contextmanager
def _exclusive_lock(folder: Path) -> Iterator[None]:
    """Exclude other writers: a key that one of them overwrites is lost, with its secrets."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write_temporary(path: Path, keys: Sequence[Key]) -> Path:
    """Write a file in the same folder, with mode 0600 from its creation on."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(
            "# Treadle's keys for secrets, the current one first. Without them no secret can be read: back them up.\n"
        )
        file.writelines(f"{key.text}\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _sync_folder(folder: Path) -> None:
    """Make the name of the file durable against a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
