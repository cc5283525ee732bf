"""Mathematics: pure numpy and scipy, no files."""
