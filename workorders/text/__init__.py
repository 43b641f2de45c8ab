"""Text in, text out: secrets found and masked, strangers' text made harmless, the wording that all pages share.

Text of anybody comes in, so every function bounds its work. Pure. May import `domain`.
"""
