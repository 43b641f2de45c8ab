"""What the product is about, as plain values: states and their legal moves, workflows, expected failures.

Nothing comes in but plain values. May import the base error of `sandboxes`, and neither Django nor a row.
"""
