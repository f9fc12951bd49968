"""The two ports: what the consumer asks of Kafka, and of a store. Neither side imports the other."""
