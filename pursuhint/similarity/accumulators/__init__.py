"""Statistics of all layers that one pass over the data collects, in the form that costs least."""
