"""The host's settings as what nodes reach takes them; the same for workers and server."""

from app.settings import Settings
from engine.catalog_file import add_models, read_catalog
from engine.nodes.resources import ResourceOptions


def options_of(settings: Settings, *, sandbox_ready: int = 1) -> ResourceOptions:
    """Raises CatalogError."""
    return ResourceOptions(
        sandbox_ready=sandbox_ready,
        sandbox_processes=settings.sandbox_processes,
        sandbox_memory_mb=settings.sandbox_memory_mb,
        http_allow=settings.http_allow,
        catalog=add_models(read_catalog(settings.catalog_file), settings.models),
    )
