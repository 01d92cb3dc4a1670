"""Hint plans in the words of other tools, which read outputs of modules by name."""
