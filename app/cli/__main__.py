"""Run the `treadle` command by `python -m app.cli`."""

from app.cli.main import main

main()
