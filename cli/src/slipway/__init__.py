"""The data scientist's side of Slipway: from a trained model to a digest in Git."""
