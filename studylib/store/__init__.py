"""A thing that is computed once and kept: a run, the store of runs, and the tables that are
exported from it."""
