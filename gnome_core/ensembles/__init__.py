"""Stacked members, volume augmentation, uncertainty."""
