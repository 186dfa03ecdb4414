"""The button that turns notifications of the browser on and off."""
