"""`python -m gateway.cli`: the `audition` command where no script is on the path."""

from gateway.cli import main

main()
