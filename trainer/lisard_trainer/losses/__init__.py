"""Loss terms and the views of an image that they compare; the terms of LISArD are in lisard.py."""
