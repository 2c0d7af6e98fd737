"""`python -m minions` is the `minions` command."""

from minions.cli import main

main()
