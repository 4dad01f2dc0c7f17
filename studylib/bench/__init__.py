"""How fast it is, beside TRL, `generate` and a plain loop."""
