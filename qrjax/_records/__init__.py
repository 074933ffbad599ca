"""Records: how variables came to be, kept as JSON, and any initial weight from them."""
