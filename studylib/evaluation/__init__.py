"""Greedy answers, and their scores."""
