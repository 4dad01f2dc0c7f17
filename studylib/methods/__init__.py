"""What a student learns by: divergences, losses on features, and mixtures of them in stages."""
