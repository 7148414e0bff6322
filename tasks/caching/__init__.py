"""What is known of a shard: its result, whether that is whole, who made it."""
