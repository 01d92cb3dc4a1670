"""Recipes: what a run is made of, read from YAML and the command line, checked, and filled in."""
