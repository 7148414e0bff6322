"""The models of a run outside of it: asked, or taken out of the store."""
