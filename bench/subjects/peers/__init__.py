"""Other ways to do the same job, each a small program that is started and measured like ours."""
