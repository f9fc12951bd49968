"""What is measured: the pipeline, the loops to compare it with, and the peers."""
