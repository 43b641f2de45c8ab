"""The only write path of the web side: page, API, admin and command call these functions.

Typed values come in, keyword by keyword, with who asks. Each function is one transaction. May import `reading`,
`queueing`, `repositories`, `models`, `text` and `domain`, and starts no process.
"""
