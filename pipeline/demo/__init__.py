"""The demo: real servers, two instances of ``pipeline run``, one of them killed, every row compared.

::

    events      session events from a seed, and the rows that they must amount to
    producer    sends them to Kafka, at a given rate
    stage       a topic, two databases, configuration files; the instances as processes
    reading     what the ledgers say: who owns a partition, what is applied
    progress    the same as rates and lags, for people
    display     a live table on a terminal, and a line every two seconds elsewhere
    verdict     every row compared with what was produced
    play        the story, from the first event to the verdict
"""
