"""Layer statistics accumulated in one pass over the data, in the faster layout that fits the memory."""
