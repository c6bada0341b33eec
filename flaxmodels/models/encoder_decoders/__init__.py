"""What families of encoder-decoders share: the scaffold and its heads, and the kind that fairseq
has."""
