"""A real Kafka and a real Postgres on this machine, for the demo, the tests and the benches."""
