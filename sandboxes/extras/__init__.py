"""What stands in a checkout beside the repository's own commits: submodules, and contents of Git LFS.

Trees of the trusted mirror and a stranger's texts come in; typed values, and stored contents that are what their name
says, come out. May import `trusted_git`, `processes` and the errors.
"""
