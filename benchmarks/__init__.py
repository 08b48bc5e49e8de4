"""How well goals are matched and runs are induced, measured on goals that nobody here wrote."""
