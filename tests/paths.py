"""Paths of files in the checkout that tests read or execute."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "tests" / "peers"
