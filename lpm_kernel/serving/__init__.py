"""A model answering on loopback, and the client that asks it."""
