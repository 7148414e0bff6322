"""Rewards: graders, aggregation over repeats, selection and the statistics of a run."""
