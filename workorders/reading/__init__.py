"""The read models: what pages, API answers and commands show of orders, and what the engine reads off their rows.

Ids come in and frozen values come out, with a constant number of queries each. Nothing is written, and neither git nor
a process is asked. May import `repositories`, `models`, `text`, `domain`, and values of `github_app` and `sandboxes`.
"""
