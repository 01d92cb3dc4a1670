"""From a network and data to a hint plan: one pass, similarities, clusterings, positions."""
