"""The seam to kafka-python: the only room that imports it, and the only one that knows its threads."""
