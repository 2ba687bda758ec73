"""The artifact: where it comes from, what it must hash to, where it is kept."""
