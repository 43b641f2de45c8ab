"""What the pages show, as frozen values: read models over the rows, a constant number of queries for each.

Everything that can grow is bounded; no git, no process, no write. Texts are as they were stored: templates make
them fit to be looked at.
"""
