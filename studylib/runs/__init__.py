"""The kinds of run: how each is planned, made, and what it takes."""
