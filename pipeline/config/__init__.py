"""The configuration: its model, how it is read, and what must hold between its values."""
