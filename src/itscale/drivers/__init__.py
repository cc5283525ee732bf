"""A policy over a stored pool or a running engine; drawing and assessing samples."""
