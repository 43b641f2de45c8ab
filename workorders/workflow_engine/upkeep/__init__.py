"""What is done beside the steps: recovery after a death, removal of what is old, colours of stored diffs.

Nothing comes in but the time. Each is safe at any time and on any number of hosts. May import `place`, `record` and
what is below them.
"""
