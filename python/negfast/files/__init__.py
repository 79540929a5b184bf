"""Files that users bring and get: tables, embeddings, and how they are written."""
