"""What the Snakefile asks about the workflow itself."""
