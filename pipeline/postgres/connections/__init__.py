"""One Postgres server: the bridge, its connections, the breaker, and what its errors mean."""
