"""Hostile input, made by the thousand: `make fuzz`. A short form of each runs with the tests."""
