"""Where a step works: its repository, the commit it starts from, the sandbox, and what is saved of an old place.

A claimed step comes in. Nothing is pushed here. May import `record` and what is below it.
"""
