"""One module per `seal` command."""
