"""How work is announced: tickets and short tasks through django-q2, the doorbell, signs of life.

Identifiers come in and nothing else: the truth about an order is in its rows. May import the hardening of `sandboxes`,
and no other room of the product.
"""
