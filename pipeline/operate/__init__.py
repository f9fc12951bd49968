"""The operator's commands as a library: lag, dead letters, rewinding.

Everything that a command asks, decides and does is here, and what its result looks like as lines of
text. `pipeline.cli` has the parsers, and prints. Nothing here reads ``sys.argv`` or exits.

::

    cluster      Kafka for a command that does one thing and ends
    ledgers      the ledgers of all shards, read and reset
    lag          message lag and time lag of each partition
    deadletters  what is on the dead letter topic, and what still waits there
    replay       sending dead letters back, or marking them as dropped
    exclusion    one replay or drop at a time, on the whole cluster
    rewind       the group's offsets and the ledgers moved together
    control      the operators' wishes: holds, pauses, limits; written, read, refused
    refusals     why a hold or a pause can't be kept
    moments      times and ages as an operator writes them
    views        results as lines of text
    console      tables, widths, and questions with a yes or a no
"""
