"""The built-in toy task: synthetic arithmetic, a small language model and two process reward models."""
