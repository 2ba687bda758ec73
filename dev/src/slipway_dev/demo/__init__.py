"""The demonstration: one model, served for real, replaced under load, and defended."""
