"""Adapters to libraries that users train with, one folder each. Nothing here is imported by the rest of the package."""
