"""Everything that comes from outside: benchmarks, samples, released data."""
