"""Other ways to do the same job: each a small program, started and measured like ours."""
