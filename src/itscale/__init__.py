"""How many samples, rounds and votes a question deserves: OptScale, MarkovScale and OptPO."""
