"""Records: what Kafka delivers, how values are found in it, and how it is decoded."""
