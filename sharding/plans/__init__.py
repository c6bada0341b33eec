"""What a model on devices takes, before anything is made."""
