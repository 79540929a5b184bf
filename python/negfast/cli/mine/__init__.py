"""`negfast mine`: the main job on files."""
