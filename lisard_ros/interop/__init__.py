"""Models, data and attacks of this package in the protocols of other evaluation tools."""
