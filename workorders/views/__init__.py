"""Pages and health checks."""
