"""Translation with a model at hand: decoding, files and streams of lines, the pipeline."""
