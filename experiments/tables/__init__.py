"""Published tables as files: what one holds, reading it, and judging what a paper concludes."""
