"""Metrics of held-out evaluation: pure functions."""
