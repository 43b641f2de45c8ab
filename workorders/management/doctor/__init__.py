"""What `manage.py doctor` asks, and nothing is changed: this machine, the settings, the installation, GitHub.

Settings come in, and findings come out. May import the composition root and `management.cluster`.
"""
