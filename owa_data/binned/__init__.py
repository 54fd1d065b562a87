"""Event rows to time bins: one row per bin with its screens, its actions, and the same as numbers."""
