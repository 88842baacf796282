"""Machine B: MCP servers for the assistant's tools, and what keeps them safe when the model is fooled."""
