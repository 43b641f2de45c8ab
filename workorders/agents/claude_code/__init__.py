"""Claude Code: its command line, its stream of JSON, and why one of its runs did not count.

Bytes of the program come in and are bounded; typed values come out. Pure. May import `agents.base`, and values of
`sandboxes`.
"""
