"""Private helpers that know nothing of networks: files, name tables, processes, seeds, time."""
