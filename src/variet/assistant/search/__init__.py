"""Search by SearXNG, and pages as clean text, for whoever speaks MCP."""
