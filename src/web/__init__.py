"""The page and its API: `python -m src.web --help`."""
