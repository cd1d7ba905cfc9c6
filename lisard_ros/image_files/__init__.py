"""Images, videos and lists of boxes in files."""
