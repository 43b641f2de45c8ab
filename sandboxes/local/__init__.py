"""Sandboxes on this host: the two local backends, and the folders, locks and git settings of their places.

A `SandboxSpec` comes in through the Protocol of `sandboxes.base`. What an agent had in its hands is looked at without
following anything. May import everything of `sandboxes` but `remote`, the registry and the checks.
"""
