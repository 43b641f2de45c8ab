"""Repositories as services, engine and pages need them: what a name means, which row it is, GitHub's rate limit.

Names that people typed come in, and what GitHub said as values of `github_app.types`; GitHub itself is not asked here.
May import `models`, `domain`, and the pure modules and rows of `github_app`.
"""
