"""Observe, decide, apply: the level-triggered reconcile of one ModelDeployment."""
