"""Optimizers and schedules by name, and which leaves they mean."""
