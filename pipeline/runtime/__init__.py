"""The process itself: signals, Ctrl-C, the cycle collector, back-off. Imports nothing of the pipeline."""
