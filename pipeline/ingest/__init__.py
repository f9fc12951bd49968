"""`pipeline ingest`: the HTTP endpoint in front of Kafka. It answers 202 when Kafka has acknowledged."""
