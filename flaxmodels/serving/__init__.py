"""Models as exported programs: written, and run without the code that made them."""
