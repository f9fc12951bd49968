"""The process itself: signals, Ctrl-C, the cycle collector, back-off, what recurs.

It imports nothing of the pipeline.
"""
