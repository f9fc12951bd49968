"""A real systemd for tests: `machine`."""
