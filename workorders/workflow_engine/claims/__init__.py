"""Who may work on a step, until when, and how it is told to stop: leases, the workers' signs of life, the brake.

Times are the database's. May import `models` and `domain`, and no other room of the engine.
"""
