"""Paths of the checkout that tests read or start programs from."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "tests" / "peers"
