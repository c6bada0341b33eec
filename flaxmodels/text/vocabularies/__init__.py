"""Vocabularies: pipelines out of the files that hold tokens, where there is no tokenizer.json."""
