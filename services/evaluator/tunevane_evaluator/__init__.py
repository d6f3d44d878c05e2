"""The evaluator: measures how well checkpoints retrieve."""
