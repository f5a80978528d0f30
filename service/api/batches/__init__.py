"""Batches: a manifest of videos by reference, each line of which becomes a job."""
