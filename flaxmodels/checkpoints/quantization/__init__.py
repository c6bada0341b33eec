"""What of a load is quantised: by its configuration, or as the caller asks."""
