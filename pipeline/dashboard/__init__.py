"""The page at ``/`` of ``[http] listen``, and the model that it shows."""
