"""Fitting the networks to labeled clips."""
