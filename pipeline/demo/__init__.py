"""The demo: real servers, two instances of ``pipeline run``, one of them killed, every row compared.

::

    events      session events from a seed, and the rows that they must amount to
    producer    sends them to Kafka, so many a second
    stage       a topic, two databases, configuration files; the instances as processes
    reading     what the ledgers say: who owns a partition, what is applied
    progress    the same as rates and lags, for people
    display     on a terminal a live table, elsewhere a line now and then
    verdict     every row compared with what was produced
    play        the story, from the first event to the verdict
"""
