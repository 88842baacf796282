"""The words a session begins with: the system prompt, frozen, and what is told with the person's first words."""
