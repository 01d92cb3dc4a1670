"""Several students trained side by side, with one pass of their teacher."""
