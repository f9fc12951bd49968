"""Pictures of results. All but `draw` runs in the peers' environment, which has matplotlib."""
