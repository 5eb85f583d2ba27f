"""The Celery workers: the only place that runs the model."""
