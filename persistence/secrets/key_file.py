"""The key file: a key a line, the first one current. Made at the first start, for its owner alone, whole or not at all.

Any number of processes may want to make it at once: one of them does, and all use that one.
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
    """Empty where there is no file. Raises KeyProblem."""
    try:
        with path.open(encoding="ascii") as file:
            if (mode := stat.S_IMODE(os.fstat(file.fileno()).st_mode)) & OTHERS:
                raise KeyProblem(f"{path}: others may read it (mode {mode:04o}); `chmod 600 {path}`")
            lines = [line.strip() for line in file]
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as wrong:
        raise KeyProblem(f"{path}: cannot be read: {wrong}") from wrong
    keys = tuple(parse_keys((line for line in lines if line and not line.startswith("#")), str(path)))
    if not keys:
        raise KeyProblem(f"{path}: there is no key in it")
    return keys


def make(path: Path) -> None:
    """Makes it with a new key, unless somebody was quicker. Raises KeyProblem."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = _written(path, [Key.new()])
        try:
            with suppress(FileExistsError):
                os.link(written, path)  # with all that is in it, or not at all
        finally:
            written.unlink()
        _settle(path.parent)
    except OSError as wrong:
        raise KeyProblem(f"{path}: cannot be made: {wrong}; set TREADLE_SECRET_KEY instead") from wrong


def add(path: Path) -> None:
    """Puts a new key before the others. Whoever reads meanwhile finds the old file or the new one. Raises KeyProblem."""
    try:
        with _alone(path.parent):
            keys, owner = read(path), path.stat()
            written = _written(path, [Key.new(), *keys])
            os.chown(written, owner.st_uid, owner.st_gid)
            written.replace(path)
            _settle(path.parent)
    except OSError as wrong:
        raise KeyProblem(f"{path}: cannot be written: {wrong}") from wrong


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time: a key that two others overwrite would take its secrets along."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _written(path: Path, keys: Sequence[Key]) -> Path:
    """A file beside it, with mode 0600 from its beginning."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(
            "# Treadle's keys for secrets, the first one current. Without them no secret can be read: back them up.\n"
        )
        file.writelines(f"{key.text}\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _settle(folder: Path) -> None:
    """After a power cut the file is there under its name."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
