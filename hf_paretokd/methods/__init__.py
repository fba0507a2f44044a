"""One file a method: its configuration and its trainer."""
