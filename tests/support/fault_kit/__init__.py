"""Faults brought in on a real cluster, and what every row of the fault table goes through."""
