"""One worker process: claims steps, runs each in a thread, and drives it from its claim to its end.

Claims and an order to stop come in. It drives and does not account. May import every other room of the engine.
"""
