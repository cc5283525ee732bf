"""Everything that comes from outside: datasets, samples, released data."""
