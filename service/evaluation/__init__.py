"""What a trained network is worth: test sets of real footage, checks of what it reads, and the report of both."""
