"""What the pipeline shows of itself: metrics, health, logs, and the port they are served on."""
