"""The web server: access check and routes."""
