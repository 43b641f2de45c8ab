"""What each kind of step does: the agent at work on a phase or a follow-up, and the delivery.

A claimed step comes in, with its place. May import `outward`, `evidence`, `place`, `record` and what is below them.
"""
