"""Reading a network: where its sub-blocks are, and what they put out for a batch."""
