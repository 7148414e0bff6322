"""Commands that run an experiment, plan it, or tell where it stands."""
