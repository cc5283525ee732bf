"""Labelled chains after the fact: is re-answering a two-state Markov chain, and how well is it forecast? No rule reads this."""
