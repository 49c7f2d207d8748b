"""The keys of one process: those of its setting, then those of the key file, which is read again when it has changed.

So a rotation needs no restart where a file holds the keys. Nothing here makes a key by itself but `ensure`.
"""

from pathlib import Path
from typing import Self

from app.settings import Settings
from persistence.secrets import key_file
from persistence.secrets.keyring import Key, Keyring, parse_keys

SETTING = "TREADLE_SECRET_KEY"


class Keys:
    def __init__(self, configured: str | None, path: Path) -> None:
        """`configured` are keys in base64, separated by commas. Raises KeyProblem."""
        self.path = path
        self._configured = tuple(parse_keys((configured or "").split(","), SETTING)) if configured else ()
        self._from_file: tuple[Key, ...] = ()
        self._read_at: tuple[int, ...] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What this host's secrets are encrypted under. Raises KeyProblem."""
        configured = None if settings.secret_key is None else settings.secret_key.get_secret_value()
        return cls(configured, settings.data_dir / key_file.NAME)

    @property
    def is_configured(self) -> bool:
        return bool(self._configured)

    def ring(self) -> Keyring:
        """As it is now. Raises KeyProblem where the file cannot be used."""
        now = self._stamp()
        if now != self._read_at:
            self._from_file = key_file.read(self.path)
            self._read_at = now
        return Keyring((*self._configured, *(key for key in self._from_file if key not in self._configured)))

    def ensure(self) -> None:
        """Makes the file with a first key, where there is no key at all. Raises KeyProblem."""
        if self.ring().current is None:
            key_file.make(self.path)

    def add(self) -> None:
        """A new key, current from now on for every process that reads the file. Raises KeyProblem."""
        key_file.add(self.path)

    @property
    def told(self) -> str:
        """Where the keys come from."""
        return SETTING if self.is_configured else str(self.path)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode
