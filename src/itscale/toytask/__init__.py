"""The built-in toy task: synthetic arithmetic, a tiny language model and a tiny process reward model."""
