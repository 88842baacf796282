"""Machine B, pure: what an action may do, decided from plain facts, with the reason."""
