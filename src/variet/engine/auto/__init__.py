"""`auto`: which tier a request goes to when its client leaves that open. wording -> rules -> choice; chooser joins them
to what is loaded and measured."""
