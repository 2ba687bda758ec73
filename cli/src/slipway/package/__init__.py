"""The package of a model: ``slipway.json`` and the files it pins."""
