"""The embedded default world: synthetic arithmetic, a tiny language model and a tiny process reward model."""
