"""From a dataset to batches: columns, tokens, padding, packing, shares of processes."""
