"""One process per user that keeps conversations open for surfaces: they come and go, turns go on."""
