"""What runs in the cluster as it is written here: mounted into containers, never imported by the program."""
