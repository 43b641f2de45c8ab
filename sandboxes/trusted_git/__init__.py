"""The server's own git: mirrors, what comes into them, and what a push would take out of them.

Paths of bare repositories that no agent can write come in, and addresses of remotes; a folder that an agent could
write never does (law 2). Typed values come out. May import `processes` and the errors.
"""
