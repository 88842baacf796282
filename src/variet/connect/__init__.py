"""Other people's coding clients on this engine: their configuration written, tried out, and put back."""
