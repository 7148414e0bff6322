"""Order: the Prefect flows, top to bottom like the algorithm, and the command line."""
