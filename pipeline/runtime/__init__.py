"""The process itself: signals, Ctrl-C, the cycle collector. Imports nothing of the pipeline."""
