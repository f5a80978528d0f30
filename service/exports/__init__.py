"""Answers as files that other programs open. Pure: an answer in, text out; API and command line share it."""
