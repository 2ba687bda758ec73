"""Whether a model computes what it should: cases, comparison, and where two models part."""
