"""Weights, and what is asked of them."""
