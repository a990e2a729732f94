"""One package per phase; a component takes everything it needs in its args and never reads config."""
