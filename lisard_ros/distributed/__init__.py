"""A replay in slices, answered by several processes of this machine or of a Ray cluster, and joined exactly."""
