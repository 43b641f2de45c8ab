"""What git shows after a step: the progress, what its phase must have left, and whose commits those are.

Commits in the trusted mirror come in; what an agent says of itself does not. May import `place`, `record` and what is
below them.
"""
