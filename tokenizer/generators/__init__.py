"""Generators: classes to indices, and how indices are drawn from them. They speak only in indices and layouts."""
