"""People at the door: signing in, one's own account and keys, and who may see a page at all.

Forms of signed-out strangers come in, too. May import `services`, `text` and `domain`.
"""
