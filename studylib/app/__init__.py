"""What a user calls: the commands, the notebooks, the report."""
