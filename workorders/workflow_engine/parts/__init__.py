"""What the engine is made of: settings and clients, put together once in `workorders.wiring`, and shared by all rooms.

May import no other room of the engine.
"""
