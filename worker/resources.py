"""The host's settings as the resources of nodes take them; the same for the workers and for the server."""

from app.settings import Settings
from engine.catalog_file import read_catalog, with_models
from engine.resources import ResourceOptions
from persistence import key_file
from persistence.keys import Keys


def options_of(settings: Settings, *, sandbox_ready: int = 1) -> ResourceOptions:
    """Raises CatalogError."""
    return ResourceOptions(
        sandbox_ready=sandbox_ready,
        sandbox_processes=settings.sandbox_processes,
        sandbox_memory_mb=settings.sandbox_memory_mb,
        http_allow=settings.http_allow,
        catalog=with_models(read_catalog(settings.catalog_file), settings.models),
    )


def keys_of(settings: Settings) -> Keys:
    """What secrets are encrypted under. Raises KeyProblem."""
    configured = None if settings.secret_key is None else settings.secret_key.get_secret_value()
    return Keys(configured, settings.data_dir / key_file.NAME)
