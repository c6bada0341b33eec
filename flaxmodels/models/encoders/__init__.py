"""Encoders that are like BERT: what differs between them is said by values."""
