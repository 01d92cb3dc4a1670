"""Layer statistics accumulated in one pass over the data, in the cheapest layout that fits the memory."""
