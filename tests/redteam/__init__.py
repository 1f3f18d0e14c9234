"""Defences that are known to be broken, honest models beside them, and what the trust marks say of each."""
