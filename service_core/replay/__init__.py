"""Replays: any part of what has landed, worked on once more, by the very same assets."""
