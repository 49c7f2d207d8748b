"""Time zones of this process and its child processes: always those of the package `tzdata`.

Python prefers the zone files of the operating system, which may be years old and differ between two
hosts. Importing `engine` calls `use_package`, so that servers, workers and the isolation process
compute the same times. Node packages that use `zoneinfo` get the same zones.
"""

import os
import zoneinfo

import tzdata

PATH_VARIABLE = "PYTHONTZPATH"
"""The variable by which Python finds zone files. An empty value leaves only the package."""


def use_package() -> None:
    """Take time zones from the package, in this process and in those that it starts."""
    os.environ[PATH_VARIABLE] = ""
    if zoneinfo.TZPATH:
        zoneinfo.reset_tzpath(to=())
        zoneinfo.ZoneInfo.clear_cache()


def describe() -> str:
    """Return the version of the package, and of the IANA data in it."""
    return f"package tzdata {tzdata.__version__} (IANA {tzdata.IANA_VERSION})"
