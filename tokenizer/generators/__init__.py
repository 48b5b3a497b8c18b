"""Generators, from classes to indices, and sampling from them. They depend on indices and layouts only."""
