"""How it is measured: servers, topics, rounds in turn, figures, goals, and files of results."""
