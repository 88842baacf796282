"""Where tokens lie: the system's keyring, else a sealed file whose key is not on this machine."""
