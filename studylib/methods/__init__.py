"""What a student learns by: divergences, losses on features, objectives in stages, and a file per
method."""
