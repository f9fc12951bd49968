"""Pictures. These modules run in the peers' environment, which has matplotlib and little else."""
