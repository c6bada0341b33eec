"""Writers: quantised weights as other libraries store them, a module a format."""
