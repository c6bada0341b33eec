"""Adapters: small arrays beside a weight that change what it computes (LoRA and its kin)."""
