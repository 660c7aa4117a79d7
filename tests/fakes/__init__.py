"""Stand-ins at the seams."""
