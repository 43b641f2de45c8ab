"""Django's SQLite backend on a SQLite that does not corrupt its write-ahead log (see `base`)."""
