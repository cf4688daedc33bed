"""Live expressions from a camera, a video or pictures: `python -m src.realtime --help`."""
