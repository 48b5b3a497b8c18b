"""A protocol applied to tokenizers: a small generator trained on the tokens of each, its samples at the best guidance, linear probes."""
