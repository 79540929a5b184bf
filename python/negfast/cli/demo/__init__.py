"""`negfast demo`: the main job on real text that this machine already holds."""
