"""The seam to kafka-python: the only room that consumes by it, and that knows its threads.

Its modules use names inside of kafka-python and aiokafka, so importing any of them with a version
that is not known raises `PipelineError` (see `internals`).
"""

from pipeline.kafka.internals import require_known_versions

require_known_versions()
