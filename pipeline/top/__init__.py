"""``pipeline top``: the dashboard's numbers of the whole group, on a terminal."""
