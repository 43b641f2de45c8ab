"""The JSON API: translates requests into one call of the services or the read model, and answers back."""
