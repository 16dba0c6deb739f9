"""``python -m loadgen``: the command line."""

from loadgen.cli import main

main()
