"""Does negfast make better embeddings, and at what price? An experiment on real text; run.py starts it."""
