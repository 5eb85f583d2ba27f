"""Decoding in processes of their own: what crashes, hangs or swallows memory there costs one picture, not a worker.

`pool.DecoderPool` is what the rest of the workers uses. Nothing is imported here, because each of the processes
imports this package, and should start fast.
"""
