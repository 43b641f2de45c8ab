"""Sandboxes elsewhere: the two backends that talk to an SDK, and what they share.

A `SandboxSpec` comes in through the Protocol of `sandboxes.base`; packs, files and commands go out to a machine whose
word is never a fact. May import everything of `sandboxes` but `local`, the registry and the checks.
"""
