"""Finding the weights: the loop, the optimiser, checkpoints, several processes."""
