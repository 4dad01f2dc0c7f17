"""From a model reference to weights: loading, parts, pruning, adapters, FLOPs."""
