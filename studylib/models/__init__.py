"""From a model reference to weights: loading, parts, pruning, low-rank adapters."""
