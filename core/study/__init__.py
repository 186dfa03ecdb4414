"""The quiz: its questions, its answers and their statistics."""
