"""One module per figure; each is a function of tidy tables and nothing else."""
