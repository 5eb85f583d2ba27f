"""The networks that turn pictures into features, one class for each runtime, and how one of them is chosen.

Nothing is imported here: a process that runs LiteRT never loads TensorFlow.
"""
