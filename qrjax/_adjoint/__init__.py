"""The backward half of a walk: derivatives' second moments, equation by equation."""
