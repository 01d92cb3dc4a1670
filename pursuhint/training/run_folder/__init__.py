"""What a run leaves on disk: its record, resumable state, environment, fingerprints and exports."""
