"""Variet Engine: one port, five tiers, hot-swapped. Start reading at docs/architecture.md."""
