"""The web server: its sockets and processes, their two lanes, and what stands before every page.

Settings and sockets come in; orders are not known here. May import the processes, files and errors of `sandboxes`.
"""
