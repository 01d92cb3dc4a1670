"""A student, its frozen teacher and the weighted losses between them, as one module."""
