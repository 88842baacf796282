"""Machine B: the loop between a model and tools. It knows no surface."""
