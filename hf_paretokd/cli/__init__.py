"""The command line: `main` turns words into calls, `show` prints what they return."""
