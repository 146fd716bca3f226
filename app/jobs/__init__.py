"""What all kinds of jobs share: hints to workers, and the feed of what changes."""
