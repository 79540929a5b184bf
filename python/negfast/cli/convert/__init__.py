"""`negfast convert`: training data between formats, and mined negatives into them."""
