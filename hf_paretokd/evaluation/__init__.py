"""Validation losses, translation, scores and the results table."""
