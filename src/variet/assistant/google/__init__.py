"""Google, as far as mail and calendar need it: sign-in, tokens, requests."""
