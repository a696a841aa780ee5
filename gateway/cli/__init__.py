"""The `audition` command."""

from gateway.cli.command import main

__all__ = ["main"]
