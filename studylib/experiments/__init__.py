"""From the values of a notebook to a plan: every run that it needs."""
