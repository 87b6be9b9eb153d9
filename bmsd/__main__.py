"""`python -m bmsd`."""

from bmsd.cli import main

main()
