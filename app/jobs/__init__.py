"""Parts for all kinds of jobs: hints to workers, and the feed of changes."""
