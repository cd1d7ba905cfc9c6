"""Files of lower precision: fp16, and int8 calibrated on real images."""
