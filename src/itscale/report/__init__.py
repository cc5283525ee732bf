"""One self-contained page about a finished run: the graph of its rules, figures, tables, manifests, tokens and time."""
