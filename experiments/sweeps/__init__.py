"""Published tables as runs: sweep files, their rows, the processes that run them, and the reports."""
