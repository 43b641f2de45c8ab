"""The model gateway: the only place that holds the model's credential. Step token in, real key out, metering."""
