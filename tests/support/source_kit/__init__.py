"""Each kind of source, from its framework to an answer of a model in a cluster."""
