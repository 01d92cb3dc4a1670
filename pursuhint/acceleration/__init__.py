"""Settings and rewrites that change how fast a network runs, and not what it computes."""
