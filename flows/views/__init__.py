"""What commands print: reports, standings, prompts."""
