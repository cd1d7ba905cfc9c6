"""From a frame to an answer: preprocessing, the pipeline, decoding, and the cache of engines."""
