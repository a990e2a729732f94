"""The AWS stand-in: one handler per type of resource, listed in table.py."""
