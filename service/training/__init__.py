"""Fitting the networks to labelled clips."""
