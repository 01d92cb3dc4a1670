"""Grids of cells, each an independent run folder, that several workers and machines train together."""
