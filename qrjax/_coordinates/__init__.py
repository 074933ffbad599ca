"""What training does to a model's outputs at several widths."""
