"""What counts as an answer, and which answers are equal."""
