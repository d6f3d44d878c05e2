"""The trainer: runs, their histories, and the workers that train them."""
