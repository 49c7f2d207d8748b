"""The keys of one process: those of its setting, then those of the key file.

The file is read again when it has changed, so a rotation needs no restart where a file holds the
keys. Only `ensure` and `add` create keys. Used by servers, workers and the commands for keys.
"""

from pathlib import Path
from typing import Self

from app.settings import Settings
from persistence.secrets import key_file
from persistence.secrets.keyring import Key, Keyring, parse_keys

SETTING = "TREADLE_SECRET_KEY"


class KeySource:
    """The source of the keys of one process: its setting and the key file."""

    def __init__(self, configured: str | None, path: Path) -> None:
        """Parse the keys of the setting.

        Args:
            configured: Keys in base64, separated by commas.
            path: The key file, which need not exist.

        Raises:
            KeyProblem: A key is invalid.
        """
        self.path = path
        self._configured = tuple(parse_keys((configured or "").split(","), SETTING)) if configured else ()
        self._from_file: tuple[Key, ...] = ()
        self._file_version: tuple[int, ...] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Make the key source of this host. Raises KeyProblem."""
        configured = None if settings.secret_key is None else settings.secret_key.get_secret_value()
        return cls(configured, settings.data_dir / key_file.NAME)

    @property
    def is_configured(self) -> bool:
        """Whether the setting holds keys."""
        return bool(self._configured)

    def keyring(self) -> Keyring:
        """Return the keys as they are now. Raises KeyProblem if the file cannot be used."""
        version = self._stat()
        if version != self._file_version:
            self._from_file = key_file.read(self.path)
            self._file_version = version
        return Keyring((*self._configured, *(key for key in self._from_file if key not in self._configured)))

    def ensure(self) -> None:
        """Create the file with a first key if there is no key at all. Raises KeyProblem."""
        if self.keyring().current is None:
            key_file.create(self.path)

    def add(self) -> None:
        """Add a key that is current from now on, for every process that reads the file.

        Raises KeyProblem.
        """
        key_file.add_key(self.path)

    @property
    def description(self) -> str:
        """The name of the setting or the path of the file, for messages."""
        return SETTING if self.is_configured else str(self.path)

    def _stat(self) -> tuple[int, ...]:
        try:
            stat = self.path.stat()
        except OSError:
            return ()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size, stat.st_mode
