"""The `test_results.json` of a testing phase: its shape, and what test tools and agents write in its place.

Bytes that an agent wrote come in and are bounded; typed results come out. Pure. May import `agents.base`.
"""
