"""Kafka → per-key channels: everything that reads, orders and hands over; knows no Postgres."""
