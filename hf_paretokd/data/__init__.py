"""From parallel text to token micro-batches: corpus, tokenizer, batches, who is sampled when."""
