"""Finished runs: a `Run` is the folder, every verb is a function of it."""
