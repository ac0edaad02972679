"""The command line: every command has a function of the same name and the same keywords."""

from leptonhpc.cli.app import main

__all__ = ["main"]
