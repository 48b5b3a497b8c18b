"""What judges a tokenizer by its indices: a small generator of them, its samples at the best guidance, linear probes, and the report."""
