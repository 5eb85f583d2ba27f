"""What the web tier, the workers and the command line share. Imports neither `web` nor `workers`."""

__version__ = "0.1.0"
