"""The rows of one claimed step: every write fenced by the claim, each method one transaction.

What was seen comes in as values. Neither git nor GitHub is asked. May import `planning`, and what is below it.
"""
