"""Settings -> the arguments of the components; a module per phase, since a preview loads only what it needs."""
