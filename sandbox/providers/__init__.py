"""Stand-ins for the official provider plugins: small gRPC providers over the sandbox's own backends."""
