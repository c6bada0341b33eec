"""Languages of multilingual tokenizers: their codes, and how a text says one."""
