"""Translates the host's settings into the options of the resources that nodes use.

Workers and servers use the same options.
"""

from app.settings import Settings
from engine.catalog_file import add_models, read_catalog
from engine.nodes.resources import ResourceOptions


def resource_options(settings: Settings, *, sandbox_ready: int = 1) -> ResourceOptions:
    """Make the options. `sandbox_ready` is the number of sandbox processes that are kept started.

    Raises:
        CatalogError: The catalog file cannot be read or is invalid.
    """
    return ResourceOptions(
        sandbox_ready=sandbox_ready,
        sandbox_processes=settings.sandbox_processes,
        sandbox_memory_mb=settings.sandbox_memory_mb,
        http_allow=settings.http_allow,
        catalog=add_models(read_catalog(settings.catalog_file), settings.models),
    )
