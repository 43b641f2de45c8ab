"""Everything that leaves the server: the gate, the push, the pull request with its texts, the comment.

Inspected commits come in; each effect has a row and is looked for before it is asked for. May import `evidence`,
`place`, `record` and what is below them.
"""
