"""Networks of other libraries, made into models that are served."""
