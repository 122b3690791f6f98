"""Where and when the pipeline runs: the Celery application, one thin module a queue, the beat's schedule."""
