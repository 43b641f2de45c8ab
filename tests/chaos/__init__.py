"""Chaos: many orders, two clusters, seeded faults, then the law (`python -m tests.chaos --help`)."""
