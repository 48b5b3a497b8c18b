"""Published tables as files: their content, reading them, and the claims of the paper."""
