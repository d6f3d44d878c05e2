"""Fine-tune embedding models for search, steered by retrieval metrics."""
