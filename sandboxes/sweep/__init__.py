"""How work leaves a place: the script that looks and takes, what it says, and the rules for what an agent left.

What a sandbox said comes in as bytes and is never a fact; a decision comes out. All of it is pure. May import the
texts of git in a place, and the values of `trusted_git.objects`.
"""
