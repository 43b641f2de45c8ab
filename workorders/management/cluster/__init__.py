"""What the main process of `qcluster` does beside its workers: the model gateway, housekeeping, the watchdog.

It starts processes and hears signals; orders are worked on elsewhere. May import the composition root and the queue.
"""
