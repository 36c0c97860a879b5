"""Runs in processes: scheduler, worker, a run to objects, a training to rows, progress, costs."""
