"""Runs an agent's program: a request in, typed events and one outcome out.

A place to run in comes in through the sandbox Protocol; what the program prints is not trusted. `claude_code` knows
one program; `rehearsal` stands in for it without a model. May import `sandboxes`, no other room of the product, and no
Django.
"""
