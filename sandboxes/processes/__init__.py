"""Starts processes, bounds them, and ends them; and what the processes of one host share.

Arguments, environments and limits come in; results come out as values. May import the errors of `sandboxes` and
nothing else of it, so that the trusted git, every kind of sandbox and `github_app` can stand on this room.
"""
