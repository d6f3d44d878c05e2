"""The tracker: mirrors runs to Prometheus and Weights & Biases."""
