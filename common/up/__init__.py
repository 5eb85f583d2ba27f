"""`imagesearch up`: everything on one machine from one command.

Nothing is imported here: the command line reads `run_record` in every command, and must start quickly.
"""
