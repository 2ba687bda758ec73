"""Pure builders of the child objects, one file a kind."""
