"""`python -m onmemos.cli`, or `python -m sdk.python.cli` in the repository."""

from . import main

main()
