"""What is learned: one file per method."""
