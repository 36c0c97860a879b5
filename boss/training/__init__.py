"""One training: configuration, state, optimizer, the step, the loop, evaluation, checkpoints."""
