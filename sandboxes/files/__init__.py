"""Files and folders of this host: their size, who owns them, and a removal that a crash cannot leave half done.

Paths come in, and this room does not ask what they are for. May import `processes` and the errors.
"""
