"""What lies on disk, and how it survives a kill."""
