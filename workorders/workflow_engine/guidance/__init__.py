"""What a repository says to agents: collected from git objects of the base commit, and put together for one step.

A commit of the trusted mirror comes in, and bounded text comes out; it is never honoured as a setting. Pure. May
import the trusted git and `agents.base`.
"""
