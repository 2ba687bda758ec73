"""Smaller or faster forms of a model, measured beside the original and kept only when they hold."""
