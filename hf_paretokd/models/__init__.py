"""Slicing models by depth, building them, and the hidden states of many depths in one pass."""
