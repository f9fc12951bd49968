"""What a process and the service manager that started it tell each other: systemd's sd_notify(3), signals."""
