"""What a model learns to do: one folder for each task, with the same file names in all of them."""
