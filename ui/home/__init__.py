"""The Home page's parts: the ways to start, and cards of runs."""
