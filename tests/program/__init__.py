"""Program tier: the real engine deploys the real program into the emulator."""
