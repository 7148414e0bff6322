"""The interpreters of the algorithm, and the Prefect tasks of a run."""
