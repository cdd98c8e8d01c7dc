"""Subcommands of ``deepspin``: the only modules that print."""
