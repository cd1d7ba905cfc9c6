"""Recorded drives without DDS: every frame once through the same Pipeline as the node, scored and reported."""
