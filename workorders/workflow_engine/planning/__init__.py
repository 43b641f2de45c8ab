"""What a claimed step is to do, how its order's commits are read, and what follows a failure.

Rows and commits come in, and a decision comes out. Nothing is written. May import `claims`.
"""
