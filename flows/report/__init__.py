"""The HTML report: what it holds, its figures and its page."""
