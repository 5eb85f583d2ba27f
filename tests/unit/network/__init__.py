"""Tests of the networks, the runtimes and the choice of a precision."""
