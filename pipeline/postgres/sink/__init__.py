"""The declared sink: records → rows → statements."""
