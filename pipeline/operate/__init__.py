"""What operators do beside a running pipeline: dead letters, rewinding, lag."""
